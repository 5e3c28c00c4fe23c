package main

import (
	"strings"
	"testing"
)

func TestExceptions(t *testing.T) {
	if _, err := readExceptions(exceptionsFile); err != nil {
		t.Error(err)
	}
	entry := "- {resources: [pods], differences: [x], request: r, upstream: u, skiff: s, why: w}\n"
	for _, c := range []struct{ name, file, want string }{
		{"good", entry, ""},
		{"too many", strings.Repeat(entry, 31), "31 entries"},
		{"no reason", "- {resources: [pods], differences: [x], request: r, upstream: u, skiff: s}\n", "entry 1"},
		{"unknown key", "- {shape: x}\n", "unknown field"},
	} {
		_, err := readExceptions([]byte(c.file))
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// answer is one with a JSON body.
func answer(code int, body string) Answer {
	return Answer{Code: code, Body: []byte(body), Header: map[string][]string{"Content-Type": {"application/json"}}}
}

// TestCompare sees that what servers choose is taken for the same, and what they
// say is not.
func TestCompare(t *testing.T) {
	const first, second = "11111111-2222-3333-4444-555555555555", "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
	status := func(message string, causes ...string) string {
		return `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Invalid","message":"` + message + `","details":{"causes":[` + strings.Join(causes, ",") + `]}}`
	}
	cause := func(field string) string {
		return `{"field":"` + field + `","reason":"FieldValueRequired","message":"Required value"}`
	}
	for _, c := range []struct {
		name            string
		upstream, skiff Answer
		want            []string
	}{
		{"identities", answer(200, `{"metadata":{"uid":"`+first+`"}}`), answer(200, `{"metadata":{"uid":"`+second+`"}}`), nil},
		{"identities that change", answer(200, `{"a":{"uid":"`+first+`"},"b":{"uid":"`+first+`"}}`), answer(200, `{"a":{"uid":"`+second+`"},"b":{"uid":"`+first+`"}}`), []string{"object: b.uid differs"}},
		{"revisions", answer(200, `{"metadata":{"resourceVersion":"5"}}`), answer(200, `{"metadata":{"resourceVersion":"77"}}`), nil},
		{"no revision", answer(200, `{"metadata":{"resourceVersion":"5"}}`), answer(200, `{"metadata":{}}`), []string{"object: metadata.resourceVersion missing"}},
		{"a default", answer(200, `{"spec":{"replicas":1}}`), answer(200, `{"spec":{}}`), []string{"object: spec.replicas missing"}},
		{"another value", answer(200, `{"type":"A"}`), answer(200, `{"type":"B"}`), []string{`object: type differs "A" "B"`}},
		{"a list's length", answer(200, `{"l":[1,2]}`), answer(200, `{"l":[1]}`), []string{"object: l[] differs"}},
		{"codes", answer(422, status("m", cause("spec.x"))), answer(201, `{}`), []string{"upstream 422 spec.x: FieldValueRequired: Required value; skiff 201"}},
		{"causes in another order", answer(422, status("[x, y]", cause("x"), cause("y"))), answer(422, status("[y, x]", cause("y"), cause("x"))), nil},
		{"a cause that lacks", answer(422, status("x", cause("x"))), answer(422, status("x")), []string{"causes: - x: FieldValueRequired: Required value"}},
		{"addresses", answer(200, `{"spec":{"clusterIP":"10.43.0.9"}}`), answer(200, `{"spec":{"clusterIP":"10.43.77.1"}}`), nil},
		{"an address elsewhere", answer(200, `{"spec":{"clusterIP":"10.43.0.9"}}`), answer(200, `{"spec":{"clusterIP":"10.42.0.9"}}`), []string{`object: spec.clusterIP differs "N.N.N.N" "N.N.N.N"`}},
		{"revisions in texts", answer(422, status(`it was {\"resourceVersion\":\"12\"}`)), answer(422, status(`it was {\"resourceVersion\":\"7\"}`)), nil},
		{"managers of one second", answer(200, `{"managedFields":[{"manager":"a"},{"manager":"b"}]}`), answer(200, `{"managedFields":[{"manager":"b"},{"manager":"a"}]}`), nil},
		{"generated names", answer(200, `{"metadata":{"name":"a-x7b9k"}}`), answer(200, `{"metadata":{"name":"a-2m4qz"}}`), nil},
	} {
		var got []string
		for _, d := range compare(Request{}, c.upstream, c.skiff, &knowledge{}) {
			got = append(got, d.Shape)
		}
		if strings.Join(got, "\n") != strings.Join(c.want, "\n") {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestWarnings(t *testing.T) {
	u, s := answer(200, `{}`), answer(200, `{}`)
	u.Header["Warning"] = []string{`299 - "old"`}
	if got := compare(Request{}, u, s, &knowledge{}); len(got) != 1 || !strings.HasPrefix(got[0].Shape, "warnings: ") {
		t.Errorf("a warning that lacks: %v", got)
	}
}

// TestBases sees that every valid object can be read.
func TestBases(t *testing.T) {
	files, err := bases.ReadDir("bases")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		list, err := readBases("bases/" + f.Name())
		if err != nil || len(list) == 0 {
			t.Errorf("%s: %d objects, %v", f.Name(), len(list), err)
		}
	}
}
