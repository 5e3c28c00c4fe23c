package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// published is where upstream's published data is: directories of its modules.
type published struct{ kubernetes, api string }

// findPublished asks Go for the modules that kube-apiserver is built from.
func findPublished(module string) (published, error) {
	dir := func(name string) (string, error) {
		out, err := exec.Command("go", "list", "-C", module, "-m", "-f", "{{.Dir}}", name).Output()
		if err != nil {
			return "", fmt.Errorf("find %s: %w (run scripts/upstream.sh first)", name, err)
		}
		return strings.TrimSpace(string(out)), nil
	}
	kubernetes, err := dir("k8s.io/kubernetes")
	if err != nil {
		return published{}, err
	}
	api, err := dir("k8s.io/api")
	return published{kubernetes, api}, err
}

// documents compares what upstream publishes, document by document, with what skiff
// says of the kinds it serves.
func (t *trial) documents(ctx context.Context) error {
	p, err := findPublished(t.options.module)
	if err != nil {
		return err
	}
	return errors.Join(t.discovery(ctx, p), t.openAPI(ctx, p), t.roundTrips(ctx, p))
}

// document notes how a document differs from what upstream has published. Where
// upstream's server itself says otherwise, what it says is as good: its files are
// put in order by tools.
func (t *trial) document(name, place string, request Request, upstream, live, skiff any) {
	upstream, live, skiff = ordered(upstream), ordered(live), ordered(skiff)
	if skiff != nil && live != nil && len(compareObjects(live, skiff, &knowledge{})) == 0 {
		upstream = live
	}
	resource := &Resource{GroupVersionResource: schema.GroupVersionResource{Resource: name}}
	request.Verb, request.Rule = "document", place
	s := step{Request: request, At: place}
	k := &knowledge{}
	switch {
	case upstream == nil && skiff == nil:
	case skiff == nil:
		s.Differences = []Difference{{place + ": missing", shorten(show(upstream), 400), ""}}
	case upstream == nil:
		s.Differences = []Difference{{place + ": extra", "", shorten(show(skiff), 400)}}
	default:
		s.Differences = compareObjects(upstream, skiff, k)
		if len(s.Differences) > 0 && len(s.Differences) < 4 {
			for i := range s.Differences {
				s.Differences[i].Shape = place + " " + s.Differences[i].Shape
			}
		}
	}
	t.report.add(resource, []step{s})
}

// ordered sorts the lists whose order says nothing: parameters, required fields,
// media types.
func ordered(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			if list, ok := e.([]any); ok && slices.Contains([]string{"parameters", "required", "consumes", "produces", "x-kubernetes-group-version-kind"}, k) {
				slices.SortFunc(list, func(a, b any) int { return strings.Compare(show(ordered(a)), show(ordered(b))) })
			}
			v[k] = ordered(e)
		}
	case []any:
		for i := range v {
			v[i] = ordered(v[i])
		}
	}
	return v
}

func readDocument(path string) (any, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return parse(data)
}

// ask asks both servers for a document; nil: there is none.
func (t *trial) ask(ctx context.Context, path, accept string) (r Request, live, ours any) {
	r = Request{Method: "GET", Path: path, Headers: map[string]string{"Accept": accept}}
	upstream, skiff := t.pair.do(ctx, r, &knowledge{})
	if upstream.Code == 200 {
		live, _ = parse(upstream.Body)
	}
	if skiff.Code == 200 {
		ours, _ = parse(skiff.Body)
	}
	return r, live, ours
}

// discovery compares the entries of the resources that skiff serves.
func (t *trial) discovery(ctx context.Context, p published) error {
	accept := "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
	whole, err := readDocument(filepath.Join(p.kubernetes, "api/discovery/aggregated_v2.json"))
	if err != nil {
		return err
	}
	request, live, ours := t.ask(ctx, "/apis", accept)
	theirs, lives := aggregated(whole), aggregated(live)
	for place, entry := range aggregated(ours) {
		t.document("discovery", "aggregated_v2 "+place, request, theirs[place], lives[place], entry)
	}
	for _, gv := range groupVersions(t.resources) {
		path, file := "/api/v1", "api__v1.json"
		if gv.Group != "" {
			path, file = "/apis/"+gv.String(), "apis__"+gv.Group+"__"+gv.Version+".json"
		}
		whole, err := readDocument(filepath.Join(p.kubernetes, "api/discovery", file))
		if err != nil {
			return err
		}
		request, live, ours := t.ask(ctx, path, "application/json")
		theirs, lives, served := resourceList(whole), resourceList(live), resourceList(ours)
		for name, entry := range served {
			t.document("discovery", file+" "+name, request, theirs[name], lives[name], entry)
		}
		for name, entry := range theirs { // what is below a resource that is served
			parent, _, below := strings.Cut(name, "/")
			if below && served[parent] != nil && served[name] == nil {
				t.document("discovery", file+" "+name, request, entry, nil, nil)
			}
		}
		if gv.Group == "" {
			continue
		}
		group, err := readDocument(filepath.Join(p.kubernetes, "api/discovery", "apis__"+gv.Group+".json"))
		if err != nil {
			return err
		}
		request, live, ours = t.ask(ctx, "/apis/"+gv.Group, "application/json")
		t.document("discovery", "apis__"+gv.Group+".json", request, keepVersions(group, t.resources, gv.Group), keepVersions(live, t.resources, gv.Group), ours)
	}
	return nil
}

// groupVersions are those of the resources, each once.
func groupVersions(resources []*Resource) []schema.GroupVersion {
	var list []schema.GroupVersion
	for _, r := range resources {
		if !slices.Contains(list, r.GroupVersion()) {
			list = append(list, r.GroupVersion())
		}
	}
	return list
}

// keepVersions leaves the versions of a group that are served.
func keepVersions(group any, resources []*Resource, name string) any {
	g, _ := cloneAny(group).(map[string]any)
	versions, _ := g["versions"].([]any)
	g["versions"] = slices.DeleteFunc(versions, func(v any) bool {
		return !slices.ContainsFunc(resources, func(r *Resource) bool { return r.Group == name && r.Version == text(v, "version") })
	})
	return g
}

// aggregated gives the resources of an aggregated document by group, version and
// name.
func aggregated(document any) map[string]any {
	all := map[string]any{}
	groups, _ := at(document, "items").([]any)
	for _, g := range groups {
		versions, _ := at(g, "versions").([]any)
		for _, v := range versions {
			resources, _ := at(v, "resources").([]any)
			for _, r := range resources {
				all[text(g, "metadata", "name")+"/"+text(v, "version")+" "+text(r, "resource")] = r
			}
		}
	}
	return all
}

func resourceList(document any) map[string]any {
	all := map[string]any{}
	resources, _ := at(document, "resources").([]any)
	for _, r := range resources {
		all[text(r, "name")] = r
	}
	return all
}

// openAPI compares the schemas and paths of the kinds that skiff serves.
func (t *trial) openAPI(ctx context.Context, p published) error {
	for _, gv := range groupVersions(t.resources) {
		name, file := "api/v1", "api__v1_openapi.json"
		if gv.Group != "" {
			name, file = "apis/"+gv.String(), "apis__"+gv.Group+"__"+gv.Version+"_openapi.json"
		}
		theirs, err := readDocument(filepath.Join(p.kubernetes, "api/openapi-spec/v3", file))
		if err != nil {
			return err
		}
		request, live, ours := t.ask(ctx, "/openapi/v3/"+name, "application/json")
		if ours == nil {
			t.document("openapi", "v3 "+name, request, "a document", nil, nil)
			continue
		}
		t.openAPIDocument("v3 "+name, request, withoutCBOR(theirs), live, ours, "components", "schemas")
	}
	theirs, err := readDocument(filepath.Join(p.kubernetes, "api/openapi-spec/swagger.json"))
	if err != nil {
		return err
	}
	request, live, ours := t.ask(ctx, "/openapi/v2", "application/json")
	if ours == nil {
		t.document("openapi", "v2", request, "a document", nil, nil)
		return nil
	}
	t.openAPIDocument("v2", request, withoutCBOR(theirs), live, ours, "definitions")
	return nil
}

// openAPIDocument compares one document's paths and schemas.
func (t *trial) openAPIDocument(name string, request Request, theirs, live, ours any, schemas ...string) {
	part := func(document any, path ...string) map[string]any {
		m, _ := at(document, path...).(map[string]any)
		return m
	}
	tp, lp, op := part(theirs, "paths"), part(live, "paths"), part(ours, "paths")
	for _, path := range keysOf(tp) {
		if op[path] != nil || t.serves(path) {
			t.document("openapi", name+" "+path, request, tp[path], lp[path], op[path])
		}
	}
	for _, path := range keysOf(op) {
		if tp[path] == nil {
			t.document("openapi", name+" "+path, request, nil, lp[path], op[path])
		}
	}
	ts, ls, our := part(theirs, schemas...), part(live, schemas...), part(ours, schemas...)
	for _, s := range keysOf(our) {
		t.document("openapi", name+" "+s, request, ts[s], ls[s], our[s])
	}
}

// serves says whether a path of upstream's document is of a resource that skiff
// serves.
func (t *trial) serves(path string) bool {
	return slices.ContainsFunc(t.resources, func(r *Resource) bool {
		for _, prefix := range []string{r.path(""), r.path("{namespace}"), strings.Replace(r.path(""), "/"+r.Version+"/", "/"+r.Version+"/watch/", 1), strings.Replace(r.path("{namespace}"), "/"+r.Version+"/", "/"+r.Version+"/watch/", 1)} {
			if path == prefix || path == prefix+"/{name}" {
				return true
			}
			for _, part := range r.Parts {
				if part.Name != "" && strings.HasPrefix(path, prefix+"/{name}/"+part.Name) {
					return true
				}
			}
		}
		return false
	})
}

// withoutCBOR leaves out the media types that are behind a gate that is shut.
func withoutCBOR(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			if strings.HasPrefix(k, "application/cbor") || strings.HasPrefix(k, "application/apply-patch+cbor") {
				delete(v, k)
				continue
			}
			v[k] = withoutCBOR(e)
		}
	case []any:
		kept := v[:0]
		for _, e := range v {
			if s, ok := e.(string); !ok || !strings.Contains(s, "cbor") {
				kept = append(kept, withoutCBOR(e))
			}
		}
		return kept
	}
	return v
}

// roundTrips sends the objects that upstream keeps of every kind, all fields set, in
// each form to both: what is read of them shows in what is said of them.
func (t *trial) roundTrips(ctx context.Context, p published) error {
	media := map[string]string{".json": "application/json", ".yaml": "application/yaml", ".pb": "application/vnd.kubernetes.protobuf"}
	for _, version := range []string{"HEAD", "v1.35.0"} {
		for _, r := range t.resources {
			group := r.Group
			if group == "" {
				group = "core"
			}
			for _, form := range sortedKeys(media) {
				file := filepath.Join(p.api, "testdata", version, group+"."+r.Version+"."+r.Kind.Kind+form)
				data, err := os.ReadFile(file)
				if errors.Is(err, fs.ErrNotExist) {
					continue
				}
				if err != nil {
					return err
				}
				t.roundTrip(ctx, r, version+" "+filepath.Base(file), data, media[form])
			}
		}
	}
	return nil
}

func (t *trial) roundTrip(ctx context.Context, r *Resource, name string, data []byte, media string) {
	sc := newScenario(ctx, t.pair, r, namespace(r, 0), 0, 0)
	for _, query := range []string{"dryRun=All", "dryRun=All&fieldValidation=Strict"} {
		sc.ask(Request{
			Method: "POST", Path: sc.collection(), Query: query, Body: data, Verb: "document", Rule: name,
			Headers: map[string]string{"Content-Type": media, "Accept": "application/json"},
		})
	}
	// In its own namespace, and with a name, it gets further.
	object, err := parseYAML(data)
	if err != nil || media == "application/vnd.kubernetes.protobuf" {
		if v, err := fromProtobuf(data); err == nil {
			object, _ = v.(map[string]any)
		}
	}
	if object != nil {
		put(object, sc.name("a"), "metadata", "name")
		put(object, "", "metadata", "resourceVersion")
		if r.Namespaced {
			put(object, sc.namespace, "metadata", "namespace")
		}
		sc.create(object, "a", "dryRun=All", name)
	}
	for i := range sc.steps {
		sc.steps[i].At = name
	}
	t.report.add(&Resource{GroupVersionResource: schema.GroupVersionResource{Resource: "testdata"}}, sc.steps)
}
