package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// Mutation is one thing done to one field of an object.
type Mutation struct {
	Field Field
	Rule  string // what is done: "missing", "unicode", "duplicated"
	value any    // what is put there, for most rules
	apply func(place, *Mutation, *sampler) bool
}

func (m Mutation) String() string { return m.Field.String() + " " + m.Rule }

// mutations lists all that can be done to a kind's fields, in order.
func mutations(fields []Field) []Mutation {
	var list []Mutation
	for _, f := range fields {
		add := func(rule string, apply func(place, *Mutation, *sampler) bool) {
			list = append(list, Mutation{Field: f, Rule: rule, apply: apply})
		}
		set := func(rule string, value any) {
			list = append(list, Mutation{Field: f, Rule: rule, value: value, apply: put1})
		}
		if last := f.Path[len(f.Path)-1]; last != "[]" {
			add("missing", remove)
		}
		set("null", nil)
		add("plausible", plausible)
		if last := f.Path[len(f.Path)-1]; last != "{}" && f.Class != "boolean" {
			add("as another", asAnother)
		}
		for _, v := range slices.Concat(odd(f.Class), f.own()) {
			set(v.name, f.nobodys(v.value))
		}
		for _, v := range f.Schema.Enum {
			set(fmt.Sprintf("enum %v", v), v)
		}
		switch f.Class {
		case "string":
			for i := range insides {
				add("inside "+itoa(i+1), inside)
			}
		case "array":
			add("duplicated", duplicate)
			add("reversed", reverse)
			add("one more", more)
			add("one less", less)
			add("many", many)
		case "object":
			add("unknown field", unknownField)
			add("another member", another)
			if all := switches(f.Schema); len(all) > 1 {
				for i := range tosses {
					add("switches "+itoa(i+1), toss)
				}
			}
		}
	}
	return list
}

// own are odd values that only a field of such a name has.
func (f Field) own() []variant {
	if f.name() == "ipFamilies" && f.Class == "string" {
		return []variant{{"family IPv4", "IPv4"}, {"family IPv6", "IPv6"}}
	}
	return nil
}

// nobodys is a value that is no name of an object which another scenario makes meanwhile:
// where a field names a class, a class of that name would come and go.
func (f Field) nobodys(value any) any {
	text, ok := value.(string)
	if !ok || text == "" || !strings.HasSuffix(f.Path[len(f.Path)-1], "ClassName") {
		return value
	}
	if c := text[0]; c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
		return "q" + text[1:]
	}
	return value
}

func put1(p place, m *Mutation, _ *sampler) bool {
	p.set(cloneAny(m.value))
	return true
}

func remove(p place, _ *Mutation, _ *sampler) bool {
	if p.object == nil {
		return false
	}
	if _, has := p.object[p.key]; !has {
		return false
	}
	delete(p.object, p.key)
	return true
}

func plausible(p place, m *Mutation, s *sampler) bool {
	p.set(s.value(m.Field.name(), m.Field.Schema))
	return true
}

func duplicate(p place, _ *Mutation, s *sampler) bool {
	list, ok := listAt(p)
	if !ok || len(list) == 0 {
		return false
	}
	p.set(append(slices.Clone(list), cloneAny(list[s.random.IntN(len(list))])))
	return true
}

func reverse(p place, _ *Mutation, _ *sampler) bool {
	list, ok := listAt(p)
	if !ok || len(list) < 2 {
		return false
	}
	turned := slices.Clone(list)
	slices.Reverse(turned)
	p.set(turned)
	return true
}

func more(p place, m *Mutation, s *sampler) bool {
	list, _ := listAt(p)
	p.set(append(slices.Clone(list), s.plain("x", m.Field.Schema.Items, 0)))
	return true
}

func less(p place, _ *Mutation, _ *sampler) bool {
	list, ok := listAt(p)
	if !ok || len(list) == 0 {
		return false
	}
	p.set(slices.Clone(list[1:]))
	return true
}

// many repeats a list's first element, its name changed each time, more often than
// any list may be long that has a limit of a hundred.
func many(p place, m *Mutation, s *sampler) bool {
	list, _ := listAt(p)
	if len(list) == 0 {
		list = []any{s.plain("x", m.Field.Schema.Items, 0)}
	}
	grown := slices.Clone(list)
	for i := range 130 {
		switch e := cloneAny(list[0]).(type) {
		case map[string]any:
			if _, named := e["name"]; named {
				e["name"] = "many-" + itoa(i)
			}
			grown = append(grown, e)
		case string:
			grown = append(grown, e+itoa(i))
		default:
			grown = append(grown, e)
		}
	}
	p.set(grown)
	return true
}

func unknownField(p place, _ *Mutation, _ *sampler) bool {
	object, ok := objectAt(p)
	if !ok {
		return false
	}
	object["unknownField"] = "value"
	return true
}

// another sets a member of an object that it does not have: where only one of
// several may be given, it is one too many.
func another(p place, m *Mutation, s *sampler) bool {
	object, ok := objectAt(p)
	if !ok || len(m.Field.Schema.Properties) == 0 {
		return false
	}
	names := make([]string, 0, len(m.Field.Schema.Properties))
	for _, name := range keysOfSchema(m.Field.Schema) {
		if _, has := object[name]; !has {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return false
	}
	name := names[s.random.IntN(len(names))]
	object[name] = s.value(name, m.Field.Schema.Properties[name])
	return true
}

// tosses is how often the switches of an object are set at random: any two of them get
// any two of their values in some of these.
const tosses = 4

// switches are the members of an object that have few values.
func switches(s *Schema) []string {
	return slices.DeleteFunc(keysOfSchema(s), func(name string) bool {
		p := s.Properties[name]
		return p.Type != "boolean" && len(p.Enum) == 0
	})
}

// toss gives all switches of an object other values, or none: many rules are about two
// that exclude each other.
func toss(p place, m *Mutation, s *sampler) bool {
	object, ok := objectAt(p)
	if !ok {
		return false
	}
	for _, name := range switches(m.Field.Schema) {
		values := m.Field.Schema.Properties[name].Enum
		if len(values) == 0 {
			values = []any{true, false}
		}
		switch n := s.random.IntN(2*len(values) + 2); {
		case n < 2*len(values):
			object[name] = values[n/2]
		case n == 2*len(values):
			delete(object, name)
		}
	}
	return true
}

func keysOfSchema(s *Schema) []string {
	names := make([]string, 0, len(s.Properties))
	for name := range s.Properties {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func listAt(p place) ([]any, bool) {
	v, _ := p.get()
	list, ok := v.([]any)
	return list, ok
}

func objectAt(p place) (map[string]any, bool) {
	v, _ := p.get()
	object, ok := v.(map[string]any)
	return object, ok
}

// mutate does one thing to a copy of an object, and says where. It fails where the
// object has no such place.
func (m *Mutation) mutate(object map[string]any, s *sampler) (map[string]any, []string, bool) {
	changed := clone(object)
	sample := func(path []string) any { return s.at(m.Field, path) }
	// What is to go, or to be multiplied, has to be there.
	if m.needsPlace() && !reaches(changed, m.Field.Path) {
		sampled, ok := find(changed, m.Field, sample, s.random)
		if !ok {
			return nil, nil, false
		}
		if v, has := sampled.get(); !has || v == nil {
			sampled.set(s.value(m.Field.Path[len(m.Field.Path)-1], m.Field.Schema))
		}
	}
	p, ok := find(changed, m.Field, sample, s.random)
	if !ok || !m.apply(p, m, s) {
		return nil, nil, false
	}
	return changed, p.pointer, true
}

// needsPlace says whether a mutation is about what is there already.
func (m *Mutation) needsPlace() bool {
	return slices.Contains([]string{"missing", "duplicated", "reversed", "one less", "unknown field", "another member"}, m.Rule) || m.tosses()
}

// reaches says whether an object has anything at a path.
func reaches(v any, path []string) bool {
	return anyAt(v, path, func(v any) bool { return v != nil })
}

// at makes a plausible value for what is at the beginning of a field's path: an
// object or list on the way to it.
func (s *sampler) at(f Field, path []string) any {
	if len(path) == len(f.Path) {
		return s.plain("x", f.Schema, 0)
	}
	next := f.Path[len(path)]
	if next == "[]" {
		return []any{}
	}
	if next == "{}" {
		return map[string]any{}
	}
	name := "x"
	for i := len(path) - 1; i >= 0; i-- {
		if path[i] != "[]" && path[i] != "{}" {
			name = path[i]
			break
		}
	}
	// What a valid object has there is likelier to reach the rules behind.
	if pool := s.pools[name]; len(pool) > 0 {
		for range 4 {
			if m, ok := cloneAny(pool[s.random.IntN(len(pool))]).(map[string]any); ok {
				return m
			}
		}
	}
	return map[string]any{}
}

// shuffled returns the mutations in an order that a seed gives.
func shuffled(list []Mutation, seed uint64) []Mutation {
	list = slices.Clone(list)
	random := rand.New(rand.NewPCG(seed, 0x5eed))
	random.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}

// repeat mutates with randomness of its own, so that it does the same to two objects
// that are alike, and says where. Nil: it cannot.
func (m *Mutation) repeat(object map[string]any, s *sampler, seed uint64) (map[string]any, []string) {
	own := &sampler{schemas: s.schemas, pools: s.pools, random: rand.New(rand.NewPCG(seed, 1))}
	changed, pointer, ok := m.mutate(object, own)
	if !ok {
		return nil, nil
	}
	return changed, pointer
}
