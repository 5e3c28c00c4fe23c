package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
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

// TestBrokenConnection: what skiff says of a list's key that is an object, or a list,
// excuses upstream's end of the connection, and nothing else does.
func TestBrokenConnection(t *testing.T) {
	list, err := readExceptions(exceptionsFile)
	if err != nil {
		t.Fatal(err)
	}
	for message, want := range map[string]bool{
		"apply the strategic merge patch: runtime error: hash of unhashable type map[string]interface {}: name the items of its lists by plain values": true,
		"apply the strategic merge patch: runtime error: hash of unhashable type []interface {}: name the items of its lists by plain values":          true,
		"something else": false,
	} {
		skiff := answer(400, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"BadRequest","message":"`+message+`"}`)
		d := compare(Request{}, Answer{Err: io.EOF}, skiff, &knowledge{})
		if excused := reason(list, "nodes", Request{}, d[0].Shape) != ""; excused != want {
			t.Errorf("%s: excused %v", d[0].Shape, excused)
		}
	}
}

// TestExceptionBySent: what a request sends excuses its differences, and no others.
func TestExceptionBySent(t *testing.T) {
	list := []Exception{{Resources: []string{"pods"}, Sent: []string{`"a":" "`}, Why: "w"}}
	for _, c := range []struct{ resource, body, want string }{
		{"pods", `{"a":" "}`, "w"},
		{"pods", `{"a":""}`, ""},
		{"nodes", `{"a":" "}`, ""},
	} {
		if got := reason(list, c.resource, Request{Body: []byte(c.body)}, "any"); got != c.want {
			t.Errorf("%+v: %q", c, got)
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
		{"revisions of conflicts", answer(409, status("the ResourceVersion in the precondition (1) does not match the ResourceVersion in record (3035)")), answer(409, status("the ResourceVersion in the precondition (1) does not match the ResourceVersion in record (27)")), nil},
		{"managers of one second", answer(200, `{"managedFields":[{"manager":"a"},{"manager":"b"}]}`), answer(200, `{"managedFields":[{"manager":"b"},{"manager":"a"}]}`), nil},
		{"volumes that servers add", answer(200, `{"f:volumes":{"k:{\"name\":\"kube-api-access-abcde\"}":{"f:name":{}}}}`), answer(200, `{"f:volumes":{"k:{\"name\":\"kube-api-access-xyz12\"}":{"f:name":{}}}}`), nil},
		{"node ports in texts", answer(422, status("m", `{"field":"spec.ports[1].nodePort","reason":"FieldValueDuplicate","message":"Duplicate value: 30903"}`)), answer(422, status("m", `{"field":"spec.ports[1].nodePort","reason":"FieldValueDuplicate","message":"Duplicate value: 30216"}`)), nil},
		{"completed names in texts", answer(422, status("is -a2b4cd")), answer(422, status("is -azz8xw")), nil},
		{"lists without keys", answer(500, status("map: map[] does not contain declared merge key: ip")), answer(500, status("map: map[a:b] does not contain declared merge key: type")), nil},
		{"a list without keys and another fault", answer(500, status("map: map[] does not contain declared merge key: ip")), answer(500, status("map")), []string{"message: map: map[] does not contain declared merge key: ip / map"}},
		{"other ports in texts", answer(422, status("nodePort: Invalid value: 80")), answer(422, status("nodePort: Invalid value: 81")), []string{"message: nodePort: Invalid value: N (another value)"}},
		{"a broken connection", Answer{Err: io.EOF}, answer(400, status("runtime error: hash of unhashable type map[string]interface {}: name")), []string{"upstream broke the connection; skiff 400 Invalid runtime error: hash of unhashable type map[]interface {}: name"}},
		{"skiff's", answer(200, `{}`), Answer{Err: io.EOF}, []string{"skiff broke the connection; upstream 200"}},
		{"generated names", answer(200, `{"metadata":{"name":"a-x7b9k"}}`), answer(200, `{"metadata":{"name":"a-2m4qz"}}`), nil},
	} {
		var got []string
		for _, d := range compare(Request{Body: []byte(`{"metadata":{"generateName":"-a"}}`)}, c.upstream, c.skiff, &knowledge{}) {
			got = append(got, d.Shape)
		}
		if strings.Join(got, "\n") != strings.Join(c.want, "\n") {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// TestSetAside: each server tells its own version, and groups that skiff does not serve
// are not asked for; those that it serves are.
func TestSetAside(t *testing.T) {
	for _, c := range []struct{ path, upstream, skiff, want string }{
		{"/version", `{"gitVersion":"v1","major":"1"}`, `{"gitVersion":"v2","major":"1"}`, ""},
		{"/version/", `{"gitVersion":"v1","major":"1"}`, `{"gitVersion":"v2"}`, "object: major missing"},
		{"/apis", `{"groups":[{"name":"a"},{"name":"b"}]}`, `{"groups":[{"name":"b"}]}`, ""},
		{"/apis/", `{"groups":[{"name":"a"},{"name":"b","kind":"x"}]}`, `{"groups":[{"name":"b"}]}`, "object: groups[].kind missing"},
		{"/apis/apps/v1", `{"kind":"APIResourceList","resources":[{"name":"a"},{"name":"b"}]}`, `{"kind":"APIResourceList","resources":[{"name":"b"}]}`, ""},
		{"/apis/apps/v1", `{"kind":"APIResourceList","resources":[{"name":"b","verbs":["get"]}]}`, `{"kind":"APIResourceList","resources":[{"name":"b"}]}`, "object: resources[].verbs missing"},
		{"/apis", `{"groups":[]}`, `{"groups":[{"name":"b"}]}`, "object: groups[] differs"},
	} {
		var got []string
		for _, d := range compare(Request{Path: c.path}, answer(200, c.upstream), answer(200, c.skiff), &knowledge{}) {
			got = append(got, d.Shape)
		}
		if strings.Join(got, "\n") != c.want {
			t.Errorf("%s: %q, want %q", c.path, got, c.want)
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

// TestBases sees that every valid object and every sequence can be read.
func TestBases(t *testing.T) {
	for _, dir := range []string{"bases", "bases/sequences"} {
		files, err := bases.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if f.IsDir() {
				continue
			}
			list, err := readBases(dir + "/" + f.Name())
			if err != nil || len(list) == 0 {
				t.Errorf("%s: %d objects, %v", f.Name(), len(list), err)
			}
		}
	}
}

// TestGenerates: the name that an answer completes is known from a request in any form.
func TestGenerates(t *testing.T) {
	data, err := toProtobuf(map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"generateName": "Unknown"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, body := range [][]byte{data, []byte(`{"metadata":{"generateName":"Unknown"}}`), []byte("metadata: {generateName: Unknown}")} {
		c := &correspondence{}
		if c.generates(body); c.plain("Unknownk7vzl") != "UnknownXXXXX" {
			t.Errorf("of %q: %s", body, c.plain("Unknownk7vzl"))
		}
	}
}

func TestSequences(t *testing.T) {
	v, err := parse([]byte(`{"a": {"repeat": "xy", "times": 3}, "b": [{"repeat": [1, 2], "times": 2}], "c": {"d": 5}}`))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(render(repeated(v))), `{"a":"xyxyxy","b":[[1,2,1,2]],"c":{"d":5}}`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	list, err := readSequences("namespaces")
	if err != nil || len(list) == 0 || len(list[0].steps) != 2 || list[0].steps[0].part != "delete" || list[0].told == "" {
		t.Errorf("%+v, %v", list, err)
	}
	if list, err := readSequences("nothings"); len(list) > 0 || err != nil {
		t.Errorf("of what has none: %v, %v", list, err)
	}
}

// recorder is a server that keeps what it is asked, and answers that all is well.
func recorder(t *testing.T) (*side, *[]string) {
	t.Helper()
	var mu sync.Mutex
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		asked = append(asked, r.Method+" "+r.URL.String()+" "+string(body))
		mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		object, err := parse(body)
		if m, ok := object.(map[string]any); err == nil && ok && r.Method == http.MethodPost {
			put(m, "11111111-2222-3333-4444-555555555555", "metadata", "uid")
			w.WriteHeader(http.StatusCreated)
			_, _ = w.Write(render(m))
			return
		}
		_, _ = w.Write([]byte(`{"kind":"List","items":[]}`))
	}))
	t.Cleanup(server.Close)
	s, err := newSide("recorder", &rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	return s, &asked
}

// configMaps is a resource with a schema of its own.
func configMaps(t *testing.T) *Resource {
	t.Helper()
	text := &Schema{Type: "string"}
	texts := &Schema{Type: "object", Additional: text}
	root := &Schema{Type: "object", Properties: map[string]*Schema{
		"data": texts, "immutable": {Type: "boolean"},
		"metadata": {Type: "object", Properties: map[string]*Schema{"name": text, "labels": texts, "finalizers": {Type: "array", Items: text}}},
	}}
	kind := schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}
	r := &Resource{
		GroupVersionResource: schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}, Kind: kind, Namespaced: true, Verbs: []string{"get"},
	}
	if err := furnish([]*Resource{r}, &Schemas{kinds: map[schema.GroupVersionKind]*Schema{kind: root}}, 7); err != nil {
		t.Fatal(err)
	}
	r.plan(7)
	return r
}

// TestRepeatable plays scenarios of every sort twice: the same is asked, of both
// sides and in the same order.
func TestRepeatable(t *testing.T) {
	for index := range 40 {
		if plotOf(index).name == "watch" {
			continue // what is asked beside a watch comes in any order
		}
		var first []string
		for round := range 2 {
			upstream, asked := recorder(t)
			skiff, same := recorder(t)
			sc := newScenario(t.Context(), pair{upstream, skiff}, configMaps(t), "ns", 7, index)
			sc.play()
			if len(*asked) == 0 || !slices.Equal(*asked, *same) {
				t.Fatalf("scenario %d (%s): %d requests of one side, %d of the other, or not the same", index, plotOf(index).name, len(*asked), len(*same))
			}
			if round == 0 {
				first = *asked
			} else if !slices.Equal(first, *asked) {
				t.Errorf("scenario %d (%s) does not repeat itself", index, plotOf(index).name)
			}
		}
	}
}

// TestPlots sees that numbers that follow each other give scenarios of all sorts.
func TestPlots(t *testing.T) {
	seen := map[string]int{}
	for index := range 111 {
		seen[plotOf(index).name]++
	}
	for _, p := range plots {
		if seen[p.name] != p.weight {
			t.Errorf("%s is played %d times of 111, want %d", p.name, seen[p.name], p.weight)
		}
	}
}

// TestRules sees that the proof finds the rules of a kind and takes out the one that
// it is told.
func TestRules(t *testing.T) {
	dir := t.TempDir()
	source := `package kind

func validate(x int) (errs field.ErrorList) {
	if x < 0 {
		errs = append(errs, field.Invalid(at, x, "must not be negative"))
	}
	errs = append(errs, validateMore(x)...)
	switch {
	case x > 9:
		errs = append(errs, field.Forbidden(at, "too many"))
	}
	if x == 3 {
		x = 4
	}
	return errs
}

func setDefaults(o *object) {
	if o.replicas == nil {
		o.replicas = 1
	}
}
`
	if err := os.WriteFile(filepath.Join(dir, "a.go"), []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := readSources(dir)
	if err != nil {
		t.Fatal(err)
	}
	rules := s.rules()
	var texts []string
	for _, r := range rules {
		texts = append(texts, r.text)
	}
	if want := []string{"validateMore(x)", "x < 0", "x > 9", "o.replicas == nil"}; !slices.Equal(texts, want) {
		t.Fatalf("rules %q, want %q", texts, want)
	}
	out := t.TempDir()
	if _, err := s.overlay(rules, out); err != nil {
		t.Fatal(err)
	}
	changed, err := os.ReadFile(filepath.Join(out, "a.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"append(errs, ruleErrors(0, validateMore(x))...)", "if (x < 0) && ruleStands(1) {", "case (x > 9) && ruleStands(2):", "if (o.replicas == nil) && ruleStands(3) {"} {
		if !strings.Contains(string(changed), want) {
			t.Errorf("%q is not in\n%s", want, changed)
		}
	}
}

func TestChanging(t *testing.T) {
	path := func(path ...string) Mutation {
		return Mutation{Field: Field{Path: path, Class: "string"}, Rule: "missing"}
	}
	list := []Mutation{path("spec", "tolerations", "[]", "key"), path("spec", "tolerations"), path("spec", "tolerationsToo"), path("spec", "containers", "[]", "image"), path("spec", "containers")}
	if got := changing(list, "pods"); len(got) != 3 || got[2].String() != "spec.containers[].image missing" {
		t.Errorf("%v", got)
	}
	if got := changing(list, "services"); got != nil {
		t.Errorf("of another kind: %v", got)
	}
}

// TestRanked: most of what is tried first is what rules are about, nothing is left out,
// and the order is the seed's.
func TestRanked(t *testing.T) {
	var list []Mutation
	for _, path := range [][]string{{"spec", "name"}, {"metadata", "name"}} {
		for _, v := range oddTexts {
			list = append(list, Mutation{Field: Field{Path: path, Class: "string"}, Rule: v.name, value: v.value})
		}
	}
	order := ranked(list, 1)
	if len(order) != len(list) {
		t.Fatalf("%d of %d", len(order), len(list))
	}
	telling := 0
	for _, m := range order[:21] {
		if m.telling() {
			telling++
		}
	}
	if telling != 14 {
		t.Errorf("%d of the first 21 are telling", telling)
	}
	for i, m := range ranked(list, 1) {
		if m.String() != order[i].String() {
			t.Fatalf("%d: %s and %s with one seed", i, m, order[i])
		}
	}
	for _, m := range order {
		if m.telling() && (m.Field.Path[0] == "metadata" || m.Rule == "number" || m.Rule == "list") {
			t.Errorf("%s is telling", m)
		}
	}
}
