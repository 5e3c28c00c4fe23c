package main

import (
	"fmt"
	"strings"
	"testing"
)

// TestPlan: all that keeps a field's type comes, before anything comes again, telling
// ones first; nothing in a pack is in what another of it is about.
func TestPlan(t *testing.T) {
	text := Field{Path: []string{"spec", "name"}, Class: "string", Schema: &Schema{Type: "string"}}
	object := Field{Path: []string{"spec"}, Class: "object", Schema: &Schema{Type: "object"}}
	all := mutations([]Field{text, object})
	plan := newPlan(all, []map[string]any{{"spec": map[string]any{"name": "a"}}, {}}, 3)
	want := map[string]int{}
	for _, m := range all {
		if m.keepsType() {
			want[m.String()]++
		}
	}
	again := map[string]bool{}
	for i, c := range plan {
		for _, pack := range c.Packs {
			if len(pack) > 1 && !pack[0].tosses() {
				t.Errorf("%v go together", pack)
			}
			for _, m := range pack {
				want[m.String()]--
				first := !again[m.String()]
				again[m.String()] = true
				if first && m.telling() && i > len(plan)*2/3 || !m.telling() && i < 3 {
					t.Errorf("%s comes in chapter %d of %d", m, i, len(plan))
				}
				if c.Base != 0 && m.Field.Path[len(m.Field.Path)-1] == "name" {
					t.Errorf("%s is tried with an object that has no such field", m)
				}
			}
		}
	}
	for m, n := range want {
		if n != 0 {
			t.Errorf("%s: %d too few", m, n)
		}
	}
}

// TestInnocent: what a failure does not name is tried again without what it names.
func TestInnocent(t *testing.T) {
	list := []done{
		{Mutation{Rule: "a"}, []string{"spec", "ports", "0", "name"}}, {Mutation{Rule: "b"}, []string{"spec", "ports", "1", "name"}},
		{Mutation{Rule: "c"}, []string{"spec", "type"}},
	}
	status := func(fields ...string) string {
		var causes []string
		for _, f := range fields {
			causes = append(causes, `{"field":"`+f+`"}`)
		}
		return `{"kind":"Status","details":{"causes":[` + strings.Join(causes, ",") + `]}}`
	}
	for _, c := range []struct {
		name   string
		answer Answer
		want   string
	}{
		{"taken", answer(201, `{}`), ""},
		{"one is named", answer(422, status("spec.ports[1].name")), "a c"},
		{"a part of it is", answer(422, status("spec.ports[0]", "spec.type.more")), "b"},
		{"the whole", answer(422, status("spec")), ""},
		{"none of them", answer(422, status("metadata.name")), "a"},
		{"not allowed", answer(403, status()), "a"},
	} {
		var rules []string
		for _, d := range innocent(list, c.answer) {
			rules = append(rules, d.Rule)
		}
		if got := strings.Join(rules, " "); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// TestToss: all pairs of values of two switches come.
func TestToss(t *testing.T) {
	schemas := &Schemas{}
	of := &Schema{Type: "object", Properties: map[string]*Schema{"a": {Type: "boolean"}, "b": {Type: "string", Enum: []any{"x", "y"}}, "c": {Type: "string"}}}
	seen := map[string]bool{}
	for _, m := range mutations([]Field{{Path: []string{"spec"}, Class: "object", Schema: of}}) {
		for seed := range uint64(200) {
			if object, _ := m.repeat(map[string]any{"spec": map[string]any{"b": "x"}}, &sampler{schemas: schemas}, seed); object != nil && strings.HasPrefix(m.Rule, "switches") {
				seen[show(object["spec"])] = true
			}
		}
	}
	if len(seen) != 9 {
		t.Errorf("%d of 9 combinations: %v", len(seen), seen)
	}
}

// TestTurns: scenarios of one plot have turns that follow each other.
func TestTurns(t *testing.T) {
	next := map[string]int{}
	for index := range 300 {
		name := plotOf(index).name
		if turnOf(index) != next[name] {
			t.Fatalf("%d (%s): %d, want %d", index, name, turnOf(index), next[name])
		}
		next[name]++
	}
}

// TestRounds: no two rules of a round show on the same resource, and one of all kinds is
// alone.
func TestRounds(t *testing.T) {
	rules := []rule{{file: "pod_update.go"}, {file: "secret.go"}, {file: "template.go"}, {file: "meta.go"}, {file: "node.go"}, {file: "lease.go"}}
	var got []string
	for round := range rounds(rules, []int{0, 1, 2, 3, 4, 5}) {
		got = append(got, fmt.Sprint(round))
	}
	if want := "[0 1 5] [2 4] [3]"; strings.Join(got, " ") != want {
		t.Errorf("%v, want %s", got, want)
	}
}

// TestWithKeys: what valid objects have in a map can be changed by its name.
func TestWithKeys(t *testing.T) {
	text := &Schema{Type: "string"}
	list := []Field{{Path: []string{"a", "[]", "m", "{}"}, Class: "string", Schema: text}, {Path: []string{"b"}, Class: "string", Schema: text}}
	object, err := parse([]byte(`{"a":[{"m":{"x":"1"}},{"m":{"y":"2"}},{}]}`))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range (&Schemas{}).withKeys(list, []map[string]any{object.(map[string]any)}) {
		got = append(got, f.String())
	}
	if want := "a[].m{} b a[].m.x a[].m.y"; strings.Join(got, " ") != want {
		t.Errorf("%v, want %s", got, want)
	}
}

// TestInside: documents in texts are changed and stay documents; other texts are left.
func TestInside(t *testing.T) {
	of := Field{Path: []string{"a"}, Class: "string", Schema: &Schema{Type: "string"}}
	m := Mutation{Field: of, Rule: "inside 1", apply: inside}
	for seed := range uint64(20) {
		const document = `{"list":[{"x":"y"}],"n":1}`
		object, _ := m.repeat(map[string]any{"a": document}, &sampler{schemas: &Schemas{}}, seed)
		if _, err := parse([]byte(text(object, "a"))); err != nil || text(object, "a") == document {
			t.Errorf("%v %v", object, err)
		}
		if object, _ := m.repeat(map[string]any{"a": "word"}, &sampler{schemas: &Schemas{}}, seed); object != nil {
			t.Errorf("of a word: %v", object)
		}
	}
}

// TestAsAnother: a member gets what the same one of another item has, or another member.
func TestAsAnother(t *testing.T) {
	m := Mutation{Field: Field{Path: []string{"l", "[]", "name"}, Class: "string", Schema: &Schema{Type: "string"}}, Rule: "as another", apply: asAnother}
	seen := map[string]bool{}
	for seed := range uint64(40) {
		object, err := parse([]byte(`{"l":[{"name":"a","other":"x","n":1},{"name":"b"}]}`))
		if err != nil {
			t.Fatal(err)
		}
		if changed, _ := m.repeat(object.(map[string]any), &sampler{schemas: &Schemas{}}, seed); changed != nil {
			seen[show(changed["l"])] = true
		}
	}
	for _, want := range []string{`[{"n":1,"name":"b","other":"x"},{"name":"b"}]`, `[{"n":1,"name":"x","other":"x"},{"name":"b"}]`, `[{"n":1,"name":"a","other":"x"},{"name":"a"}]`} {
		if !seen[want] {
			t.Errorf("%s is not in %v", want, seen)
		}
	}
}

func TestBelongs(t *testing.T) {
	for path, want := range map[string]bool{
		"spec resources": true, "spec containers [] resources limits": true, "spec initContainers [] resizePolicy": true,
		"spec volumes [] ephemeral volumeClaimTemplate spec resources": false, "status containerStatuses [] resources": false, "spec": false,
	} {
		if got := belongs(strings.Fields(path), "resize"); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
}

// TestNobodys: a class that is named is none that another scenario makes.
func TestNobodys(t *testing.T) {
	for _, c := range []struct {
		field string
		value any
		want  any
	}{{"priorityClassName", "abc", "qbc"}, {"priorityClassName", "0", "q"}, {"priorityClassName", "Bad", "Bad"}, {"priorityClassName", true, true}, {"name", "abc", "abc"}} {
		if got := (Field{Path: []string{"spec", c.field}}).nobodys(c.value); got != c.want {
			t.Errorf("%s %v: %v, want %v", c.field, c.value, got, c.want)
		}
	}
}
