package main

import (
	"net/url"
	"slices"

	"sigs.k8s.io/yaml"
)

// batch is how many mutations a scenario tries one by one.
const batch = 5

// next returns the mutations whose turn it is. Scenarios of a plot that follow each
// other go through all of them before one comes again.
func (sc *scenario) next(list []Mutation) []Mutation {
	if len(list) == 0 {
		return nil
	}
	var turn []Mutation
	for i := range batch {
		turn = append(turn, list[(sc.turn*batch+i)%len(list)])
	}
	return turn
}

// creates posts objects with many things odd about them, and with one or a few.
func creates(sc *scenario) {
	sc.createChapter(sc.resource.creating.at(sc.turn))
	for i, m := range sc.next(sc.resource.mutations) {
		short := "o" + itoa(i)
		object, ok := sc.mutated(m, short)
		if !ok {
			continue
		}
		rule := m.String()
		for _, other := range sc.company(m) {
			if again, _, ok := other.mutate(object, sc.sampler); ok {
				object, rule = again, rule+" and "+other.String()
			}
		}
		sc.postMutated(object, short, rule)
	}
}

// mutated returns a valid object with one thing changed: preferably one that has
// the field already.
func (sc *scenario) mutated(m Mutation, short string) (map[string]any, bool) {
	order := sc.random.Perm(len(sc.resource.bases))
	slices.SortStableFunc(order, func(a, b int) int {
		has := func(n int) int {
			if reaches(sc.resource.bases[n], m.Field.Path) {
				return 0
			}
			return 1
		}
		return has(a) - has(b)
	})
	for _, n := range order {
		if object, _, ok := m.mutate(sc.baseNumber(n, short), sc.sampler); ok {
			return object, true
		}
	}
	return nil, false
}

// postMutated returns what upstream says.
func (sc *scenario) postMutated(object map[string]any, short, rule string) Answer {
	query := url.Values{}
	real := sc.chance(30)
	if !real {
		query.Set("dryRun", "All")
	}
	if sc.chance(40) {
		query.Set("fieldValidation", one(sc, "Strict", "Strict", "Warn", "Ignore"))
	}
	data, media := sc.encode(object)
	answer, _ := sc.ask(Request{
		Method: "POST", Path: sc.collection(), Query: query.Encode(),
		Headers: map[string]string{"Content-Type": media, "Accept": "application/json"}, Body: data,
		Verb: "create", Rule: rule, Object: short,
	})
	if real && sc.chance(50) {
		sc.ask(Request{Method: "GET", Path: sc.object(short), Headers: jsonHeaders(), Verb: "get", Rule: rule})
	}
	return answer
}

// encode writes an object as JSON, at times as YAML or protobuf.
func (sc *scenario) encode(object map[string]any) ([]byte, string) {
	switch n := sc.random.IntN(100); {
	case n < 8:
		if data, err := toProtobuf(object); err == nil {
			return data, "application/vnd.kubernetes.protobuf"
		}
	case n < 15:
		if data, err := yaml.JSONToYAML(render(object)); err == nil {
			return data, "application/yaml"
		}
	}
	return render(object), "application/json"
}
