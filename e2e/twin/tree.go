package main

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"sort"

	"sigs.k8s.io/yaml"
)

// Objects are trees of what encoding/json makes, with json.Number for numbers.

// parse reads JSON.
func parse(data []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var v any
	err := d.Decode(&v)
	return v, err
}

// parseYAML reads a YAML document as an object.
func parseYAML(data []byte) (map[string]any, error) {
	text, err := yaml.YAMLToJSON(data)
	if err != nil {
		return nil, err
	}
	v, err := parse(text)
	if err != nil {
		return nil, err
	}
	object, _ := v.(map[string]any)
	return object, nil
}

// render writes JSON.
func render(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err) // what was parsed can be written
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// clone copies a tree.
func clone[T any](v T) T {
	copied, _ := cloneAny(v).(T)
	return copied
}

func cloneAny(v any) any {
	switch v := v.(type) {
	case map[string]any:
		m := make(map[string]any, len(v))
		for k, e := range v {
			m[k] = cloneAny(e)
		}
		return m
	case []any:
		l := make([]any, len(v))
		for i, e := range v {
			l[i] = cloneAny(e)
		}
		return l
	}
	return v
}

// at returns what is at a path of keys, or nil.
func at(v any, path ...string) any {
	for _, key := range path {
		m, _ := v.(map[string]any)
		v = m[key]
	}
	return v
}

// text returns the text at a path, or "".
func text(v any, path ...string) string {
	s, _ := at(v, path...).(string)
	return s
}

// put sets what is at a path of keys and makes the objects above it.
func put(object map[string]any, value any, path ...string) {
	for _, key := range path[:len(path)-1] {
		next, ok := object[key].(map[string]any)
		if !ok {
			next = map[string]any{}
			object[key] = next
		}
		object = next
	}
	object[path[len(path)-1]] = value
}

func keysOf(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// place is where a field's value is in one object: the map or list that holds it.
// Setting a list's element keeps its length; pointer is its JSON pointer's tokens.
type place struct {
	object  map[string]any
	key     string
	list    []any
	index   int
	beside  []any // the items of the list that the object is of
	pointer []string
}

func (p place) get() (any, bool) {
	if p.object != nil {
		v, ok := p.object[p.key]
		return v, ok
	}
	return p.list[p.index], true
}

func (p place) set(v any) {
	if p.object != nil {
		p.object[p.key] = v
		return
	}
	p.list[p.index] = v
}

// find descends to a field in an object, through elements and keys drawn at
// random, and makes plausible parents where there are none. It fails where the way
// is blocked by a value of another type.
func find(object map[string]any, f Field, sample func(path []string) any, random *rand.Rand) (place, bool) {
	here := place{object: map[string]any{"": object}, key: ""}
	for i, step := range f.Path {
		current, _ := here.get()
		if current == nil {
			current = sample(f.Path[:i])
		}
		switch step {
		case "[]":
			list, ok := current.([]any)
			if !ok {
				return place{}, false
			}
			if len(list) == 0 {
				list = []any{sample(f.Path[:i+1])}
			}
			here.set(list)
			n := choose(list, f.Path[i+1:], random)
			here = place{list: list, index: n, pointer: append(slices.Clone(here.pointer), itoa(n))}
		default:
			m, ok := current.(map[string]any)
			if !ok {
				return place{}, false
			}
			here.set(m)
			if step == "{}" {
				if len(m) == 0 {
					m["key"] = sample(f.Path[:i+1])
				}
				keys := keysOf(m)
				step = keys[random.IntN(len(keys))]
			}
			here = place{object: m, key: step, beside: here.list, pointer: append(slices.Clone(here.pointer), step)}
		}
	}
	return here, true
}

// choose draws one of a list's items: mostly one that has the field below it, and of
// those as often as not the one with the most members, since many rules are about two.
func choose(list []any, below []string, random *rand.Rand) int {
	var having []int
	richest, most := 0, -1
	for i, item := range list {
		if !reaches(item, below) {
			continue
		}
		having = append(having, i)
		if m, ok := item.(map[string]any); ok && len(m) > most {
			richest, most = i, len(m)
		}
	}
	switch {
	case len(having) == 0 || random.IntN(4) == 0:
		return random.IntN(len(list))
	case most >= 0 && random.IntN(2) == 0:
		return richest
	}
	return having[random.IntN(len(having))]
}
