package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// scenario is a sequence of requests about objects of one resource, in a namespace
// that nobody else uses at that time. It begins and ends with none of them there, so
// that it can be repeated alone.
type scenario struct {
	ctx       context.Context
	pair      pair
	resource  *Resource
	namespace string
	index     int
	turn      int // among those of the same plot
	random    *rand.Rand
	sampler   *sampler
	knows     knowledge

	objects  map[string]*twins // by name
	steps    []step
	diverged bool // one server did what the other refused: what follows says nothing
	dirty    bool
}

// twins are an object's two forms as last told.
type twins struct{ upstream, skiff map[string]any }

// step is a request with both answers.
type step struct {
	Request         Request
	Upstream, Skiff Answer
	Differences     []Difference
	At              string // the scenario and the request's place in it
}

func newScenario(ctx context.Context, p pair, r *Resource, namespace string, seed uint64, index int) *scenario {
	random := rand.New(rand.NewPCG(seed, uint64(index)<<16|uint64(len(r.Name()))))
	turn := index
	if r.Stored() {
		turn = turnOf(index)
	}
	return &scenario{
		ctx: ctx, pair: p, resource: r, namespace: namespace, index: index, turn: turn, random: random,
		sampler: &sampler{schemas: r.schemas, pools: r.pools, random: random},
		objects: map[string]*twins{},
	}
}

// plot is a kind of scenario and how often it is played.
type plot struct {
	name   string
	weight int
	play   func(*scenario)
}

// plots are all there are. Those that look at the values of fields are the most,
// since there are thousands of fields.
var plots = []plot{
	{"create", 40, creates},
	{"update", 30, updates},
	{"apply", 10, applies},
	{"live", 4, lives},
	{"list", 5, lists},
	{"watch", 2, watches},
	{"delete", 4, deletes},
	{"headers", 3, headers},
	{"paths", 3, paths},
	{"parts", 6, parts},
	{"patch", 4, patches},
}

// play plays the scenario that its number asks for.
func (sc *scenario) play() {
	if !sc.resource.Stored() {
		posts(sc, sc.resource.Parts[0], sc.resource.path(sc.namespace))
		return
	}
	if sc.index == 0 {
		sc.sequences()
	}
	plotOf(sc.index).play(sc)
	if sc.dirty {
		sc.clear()
	}
}

// plotOf is the plot that a scenario's number asks for. It is not drawn: scenarios
// with numbers that follow each other are of all sorts, since the stride has no
// divisor in common with the total.
func plotOf(index int) plot {
	total := 0
	for _, p := range plots {
		total += p.weight
	}
	n := index * 71 % total
	for _, p := range plots {
		if n -= p.weight; n < 0 {
			return p
		}
	}
	return plots[0] // not reached: the weights are the total
}

// turnOf is how many scenarios of the same plot come before one.
func turnOf(index int) int {
	total, plot := 0, plotOf(index)
	for _, p := range plots {
		total += p.weight
	}
	n := index / total * plot.weight
	for i := index - index%total; i < index; i++ {
		if plotOf(i).name == plot.name {
			n++
		}
	}
	return n
}

// ask asks both servers, compares, and keeps what they say.
func (sc *scenario) ask(r Request) (upstream, skiff Answer) {
	if sc.diverged || sc.ctx.Err() != nil {
		return Answer{}, Answer{}
	}
	writes := r.Method != "GET" && !strings.Contains(r.Query, "dryRun=All")
	sc.dirty = sc.dirty || writes // also where the scenario ends before there is an answer
	upstream, skiff = sc.pair.do(sc.ctx, r, &sc.knows)
	if sc.ctx.Err() != nil {
		return upstream, skiff
	}
	s := step{Request: r, Upstream: upstream, Skiff: skiff, At: fmt.Sprintf("%d/%d", sc.index, len(sc.steps))}
	s.Differences = compare(r, upstream, skiff, &sc.knows)
	sc.steps = append(sc.steps, s)
	if writes && (upstream.Code < 300 || skiff.Code < 300) && upstream.Code/100 != skiff.Code/100 {
		sc.diverged = true
		return upstream, skiff
	}
	if r.Object != "" && upstream.Code < 300 && skiff.Code < 300 && !strings.Contains(r.Query, "dryRun") {
		sc.learn(r.Object, upstream, skiff)
	}
	return upstream, skiff
}

// learn keeps an object's two forms, and what requests may refer to.
func (sc *scenario) learn(name string, upstream, skiff Answer) {
	u, _ := decode(upstream).(map[string]any)
	s, _ := decode(skiff).(map[string]any)
	if u == nil || s == nil || text(u, "kind") != sc.resource.Kind.Kind || text(s, "kind") != sc.resource.Kind.Kind {
		return
	}
	sc.objects[name] = &twins{u, s}
	for _, one := range []struct {
		side   *known
		object map[string]any
	}{{&sc.knows.upstream, u}, {&sc.knows.skiff, s}} {
		one.side.set("uid:"+name, text(one.object, "metadata", "uid"))
		one.side.set("revision:"+name, text(one.object, "metadata", "resourceVersion"))
		one.side.set("name:"+name, text(one.object, "metadata", "name"))
	}
}

// name is what an object is called. Those without a namespace are named after their
// resource.
func (sc *scenario) name(short string) string {
	if sc.resource.Namespaced {
		return short
	}
	return "twin-" + sc.resource.Resource + "-" + short
}

// base returns a copy of a valid object with a name.
func (sc *scenario) base(short string) map[string]any {
	return sc.baseNumber(sc.random.IntN(len(sc.resource.bases)), short)
}

func (sc *scenario) baseNumber(n int, short string) map[string]any {
	return sc.settle(sc.resource.bases[n], short)
}

// settle makes an object one of this scenario's.
func (sc *scenario) settle(object map[string]any, short string) map[string]any {
	v, _ := parse([]byte(strings.ReplaceAll(string(render(object)), "NAMESPACE", sc.namespace)))
	settled, _ := v.(map[string]any)
	put(settled, sc.name(short), "metadata", "name")
	return settled
}

func (sc *scenario) collection() string { return sc.resource.path(sc.namespace) }

func (sc *scenario) object(short string) string { return sc.collection() + "/" + sc.name(short) }

// one draws from a list.
func one[T any](sc *scenario, list ...T) T { return list[sc.random.IntN(len(list))] }

// chance is true n times of a hundred.
func (sc *scenario) chance(n int) bool { return sc.random.IntN(100) < n }

// create posts an object.
func (sc *scenario) create(object map[string]any, short, query, rule string) (upstream, skiff Answer) {
	return sc.ask(Request{
		Method: "POST", Path: sc.collection(), Query: query, Headers: jsonHeaders(), Body: render(object),
		Verb: "create", Rule: rule, Object: short,
	})
}

func jsonHeaders() map[string]string {
	return map[string]string{"Content-Type": "application/json", "Accept": "application/json"}
}

// clear removes all objects of the scenario on both sides, whatever it takes.
func (sc *scenario) clear() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(sc.ctx), 30*time.Second)
	defer cancel()
	for _, s := range []*side{sc.pair.upstream, sc.pair.skiff} {
		sc.clearSide(ctx, s)
	}
}

func (sc *scenario) clearSide(ctx context.Context, s *side) {
	answer := s.do(ctx, Request{Method: "GET", Path: sc.collection(), Headers: jsonHeaders()}, nil)
	list, _ := decode(answer).(map[string]any)
	items, _ := list["items"].([]any)
	for _, item := range items {
		name := text(item, "metadata", "name")
		if !sc.resource.Namespaced && !strings.HasPrefix(name, sc.name("")) {
			continue
		}
		path := sc.collection() + "/" + name
		if finalizers, _ := at(item, "metadata", "finalizers").([]any); len(finalizers) > 0 {
			s.do(ctx, Request{Method: "PATCH", Path: path, Headers: map[string]string{"Content-Type": "application/merge-patch+json"}, Body: []byte(`{"metadata":{"finalizers":null}}`)}, nil)
		}
		gone := s.do(ctx, Request{Method: "DELETE", Path: path, Query: "gracePeriodSeconds=0&propagationPolicy=Background"}, nil)
		if sc.resource.Resource == "namespaces" && gone.Code == 200 {
			s.do(ctx, Request{
				Method: "PUT", Path: path + "/finalize", Headers: jsonHeaders(),
				Body: []byte(`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"` + name + `"}}`),
			}, nil)
			s.do(ctx, Request{Method: "DELETE", Path: path}, nil)
		}
	}
}
