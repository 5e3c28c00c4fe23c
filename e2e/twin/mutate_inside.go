package main

import (
	"slices"
	"strings"
)

// insides is how often something is changed in a text that is a document.
const insides = 4

// inside changes something in a text that is a JSON document: a member goes, or is empty.
func inside(p place, _ *Mutation, s *sampler) bool {
	v, _ := p.get()
	if !isDocument(v) {
		return false
	}
	document, err := parse([]byte(v.(string)))
	if err != nil {
		return false
	}
	var places []map[string]any
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if len(v) > 0 {
				places = append(places, v)
			}
			for _, key := range keysOf(v) {
				walk(v[key])
			}
		case []any:
			for _, e := range v {
				walk(e)
			}
		}
	}
	walk(document)
	if len(places) == 0 {
		return false
	}
	object := places[s.random.IntN(len(places))]
	keys := keysOf(object)
	key := keys[s.random.IntN(len(keys))]
	if s.random.IntN(2) == 0 {
		delete(object, key)
	} else if _, text := object[key].(string); text {
		object[key] = [...]string{"", "Bad_Name!"}[s.random.IntN(2)]
	} else {
		object[key] = nil
	}
	p.set(show(document))
	return true
}

// chosen are members that each server makes: as another's they could not be told apart.
var chosen = []string{"metadata", "uid", "resourceVersion", "creationTimestamp", "managedFields", "nodePort", "clusterIP", "clusterIPs"}

// asAnother sets a member to what the same member of another item of the list has, or
// another member of the object: what must differ is the same.
func asAnother(p place, m *Mutation, s *sampler) bool {
	if p.object == nil {
		if len(p.list) < 2 {
			return false
		}
		p.set(cloneAny(p.list[(p.index+1)%len(p.list)]))
		return true
	}
	var values []any
	for _, e := range p.beside {
		if item, ok := e.(map[string]any); ok && item[p.key] != nil && show(item[p.key]) != show(p.object[p.key]) {
			values = append(values, item[p.key])
		}
	}
	if len(values) == 0 || s.random.IntN(2) == 0 {
		for _, key := range keysOf(p.object) {
			if v := p.object[key]; key != p.key && !slices.Contains(chosen, key) && fits(m.Field.Class, v) {
				values = append(values, v)
			}
		}
	}
	if len(values) == 0 {
		return false
	}
	p.set(cloneAny(values[s.random.IntN(len(values))]))
	return true
}

func isDocument(v any) bool {
	s, _ := v.(string)
	return strings.HasPrefix(s, "{") || strings.HasPrefix(s, "[")
}

// sensible leaves out changes inside of texts that are no documents in any object.
func sensible(list []Mutation, objects []map[string]any) []Mutation {
	return slices.DeleteFunc(list, func(m Mutation) bool {
		return strings.HasPrefix(m.Rule, "inside ") && !slices.ContainsFunc(objects, func(o map[string]any) bool {
			return anyAt(o, m.Field.Path, isDocument)
		})
	})
}

// anyAt says whether any value at a field's path is of a sort.
func anyAt(v any, path []string, is func(any) bool) bool {
	if len(path) == 0 {
		return is(v)
	}
	switch v := v.(type) {
	case map[string]any:
		if path[0] != "{}" {
			return anyAt(v[path[0]], path[1:], is)
		}
		for _, e := range v {
			if anyAt(e, path[1:], is) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(v, func(e any) bool { return anyAt(e, path[1:], is) })
	}
	return false
}
