package schema

import (
	_ "embed" // merge.txt
	"encoding/json"
	"strings"

	"sigs.k8s.io/structured-merge-diff/v6/schema"
)

// mergeRules are what the markers of k8s.io/api say beyond its Go types, one
// rule a line: the type, the field ("." is the type itself), and
//
//	atomic        it is replaced as a whole
//	set           the list's items stand for themselves
//	map KEY …     these fields tell the list's items apart
//	default JSON  what a key has that is left out
//
// Lists without a rule are atomic, maps and structs are not.
//
//go:embed merge.txt
var mergeRules string

// itself is the field of a rule that is about a whole type.
const itself = "."

type field struct{ model, name string }

type rule struct {
	atomic   bool
	set      bool
	keys     []string
	standard any // of a key; nil: none
}

type rules map[field]rule

// parseRules reads rules. It panics on what is none: the file is part of the
// program.
func parseRules(text string) rules {
	all := rules{}
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		r := rule{}
		switch words[2] {
		case "atomic":
			r.atomic = true
		case "set":
			r.set = true
		case "map":
			r.keys = words[3:]
		case "default":
			r.standard = standard(words[3])
		default:
			panic("merge.txt: not a rule: " + line)
		}
		all[field{words[0], words[1]}] = r
	}
	return all
}

func standard(text string) (v any) {
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		panic("merge.txt: default " + text + ": " + err.Error())
	}
	if n, ok := v.(float64); ok {
		return int64(n) // as paths show it
	}
	return v
}

// applied returns the schema of a field under its rule.
func (r rule) applied(ref schema.TypeRef) schema.TypeRef {
	list := ref.Inlined.List
	switch {
	case r.atomic && ref.NamedType != nil:
		atomic := schema.Atomic
		ref.ElementRelationship = &atomic
	case r.atomic:
		ref.Inlined = schema.Atom{Map: &schema.Map{ElementType: ref.Inlined.Map.ElementType, ElementRelationship: schema.Atomic}}
	case r.set || r.keys != nil:
		ref.Inlined = schema.Atom{List: &schema.List{
			ElementType: list.ElementType, ElementRelationship: schema.Associative, Keys: r.keys,
		}}
	}
	return ref
}
