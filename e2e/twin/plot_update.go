package main

import (
	"net/url"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"
)

// updates makes an object and changes one thing after the other, in every way there
// is: by a whole object and by patches, of the object and of its parts.
func updates(sc *scenario) {
	part := sc.turnsPart()
	c := sc.resource.changing[part].at(sc.turn)
	if !sc.begin(c.Base) {
		return
	}
	sc.changeChapter(c, part)
	for _, m := range sc.next(sc.resource.mutations) {
		if sc.objects["a"] == nil {
			return
		}
		if list := sc.resource.changeable; len(list) > 0 && sc.chance(40) {
			m = one(sc, list...)
		}
		sc.change(m, sc.target(m))
	}
}

// turnsPart is the part whose turn it is to be changed; "": the whole, which has more
// to be changed than its parts, unless most of it may not change.
func (sc *scenario) turnsPart() string {
	parts, every := sc.resource.ownParts(), 3
	if len(sc.resource.changeable) > 0 {
		every = 2
	}
	if n := sc.turn; len(parts) > 0 && n%every == 0 {
		return parts[n/every%len(parts)]
	}
	return ""
}

func (sc *scenario) beginAny() bool { return sc.begin(sc.random.IntN(len(sc.resource.bases))) }

// begin makes the object a of a valid one.
func (sc *scenario) begin(base int) bool {
	u, _ := sc.create(sc.baseNumber(base, "a"), "a", "", "valid object")
	return u.Code == 201 && sc.objects["a"] != nil
}

// target is the part through which a field is changed: mostly the one it belongs to.
func (sc *scenario) target(m Mutation) string {
	parts := sc.resource.ownParts()
	if len(parts) == 0 {
		return ""
	}
	own := slices.Contains(parts, m.Field.Path[0])
	switch {
	case own && sc.chance(75):
		return m.Field.Path[0]
	case sc.chance(20):
		return one(sc, parts...)
	}
	return ""
}

// change changes one thing of the object a, and others with it.
func (sc *scenario) change(m Mutation, part string) {
	list := []Mutation{m}
	for _, other := range sc.company(m) {
		if (part != "" || other.Field.Path[0] != "status") && (part == "" || belongs(other.Field.Path, part)) { // else nobody would look at it
			list = append(list, other)
		}
	}
	sc.changeAll(list, part)
}

// changeAll changes things of the object a, and returns those that could be and what
// upstream says.
func (sc *scenario) changeAll(list []Mutation, part string) ([]done, Answer) {
	now := sc.objects["a"]
	seed := sc.random.Uint64()
	u, s := now.upstream, now.skiff
	var made []done
	for _, m := range list {
		nu, pointer := m.repeat(u, sc.sampler, seed)
		if ns, _ := m.repeat(s, sc.sampler, seed); nu != nil && ns != nil {
			u, s = nu, ns
			made = append(made, done{m, pointer})
		}
	}
	if len(made) == 0 {
		return nil, Answer{}
	}
	r := sc.changing(u, s, part)
	r.Rule = ruleOf(made)
	answer, _ := sc.ask(r)
	return made, answer
}

// changing is a request that makes the object a the one that is given, in one of all
// ways.
func (sc *scenario) changing(u, s map[string]any, part string) Request {
	now := sc.objects["a"]
	query := url.Values{}
	if sc.chance(55) {
		query.Set("dryRun", "All")
	}
	if sc.chance(25) {
		query.Set("fieldValidation", one(sc, "Strict", "Warn", "Ignore"))
	}
	if sc.chance(20) {
		query.Set("fieldManager", one(sc, "one", "two"))
	}
	way := one(sc, "update", "update", "json", "merge", "strategic", "apply")
	r := Request{Path: sc.object("a"), Object: "a", Method: "PATCH", Verb: "patch " + way}
	if part != "" {
		r.Path += "/" + part
		r.Verb += " " + part
	}
	switch way {
	case "update":
		r.Method, r.Verb = "PUT", strings.TrimPrefix(r.Verb, "patch ")
		r.Headers = jsonHeaders()
		revision := sc.chance(70)
		r.Body, r.Other = render(bare(u, revision)), render(bare(s, revision))
	case "apply":
		query.Set("fieldManager", "twin")
		if sc.chance(70) {
			query.Set("force", "true")
		}
		r.Headers = map[string]string{"Content-Type": "application/apply-patch+yaml", "Accept": "application/json"}
		r.Body, r.Other = render(intent(u)), render(intent(s))
	default:
		r.Headers = map[string]string{"Content-Type": patchMedia[way], "Accept": "application/json"}
		r.Body, r.Other = sc.patch(way, now.upstream, u), sc.patch(way, now.skiff, s)
	}
	r.Query = query.Encode()
	return r
}

var patchMedia = map[string]string{
	"json": "application/json-patch+json", "merge": "application/merge-patch+json", "strategic": "application/strategic-merge-patch+json",
}

// bare is an object as a client that has read it sends it back: without
// managedFields, with its revision or without.
func bare(object map[string]any, revision bool) map[string]any {
	object = clone(object)
	if meta, ok := object["metadata"].(map[string]any); ok {
		delete(meta, "managedFields")
		if !revision {
			delete(meta, "resourceVersion")
		}
	}
	return object
}

// intent is what a client applies: no status, nothing that servers say.
func intent(object map[string]any) map[string]any {
	object = bare(object, false)
	delete(object, "status")
	if meta, ok := object["metadata"].(map[string]any); ok {
		for _, key := range []string{"uid", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds"} {
			delete(meta, key)
		}
	}
	return object
}

// patch writes what leads from one object to another.
func (sc *scenario) patch(way string, from, to map[string]any) []byte {
	switch way {
	case "json":
		operations := []any{}
		jsonPatch("", from, to, &operations)
		return render(operations)
	case "strategic":
		if typed, err := scheme.Scheme.New(sc.resource.Kind); err == nil {
			if data, err := strategicpatch.CreateTwoWayMergePatch(render(from), render(to), typed); err == nil {
				return data
			}
		}
	}
	return render(mergePatch(from, to))
}

// jsonPatch appends the operations of a JSON patch.
func jsonPatch(pointer string, from, to any, operations *[]any) {
	f, fok := from.(map[string]any)
	t, tok := to.(map[string]any)
	if !fok || !tok {
		if string(render(from)) != string(render(to)) {
			*operations = append(*operations, map[string]any{"op": "replace", "path": pointer, "value": to})
		}
		return
	}
	for _, k := range keysOf(f) {
		p := pointer + "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(k)
		if v, has := t[k]; has {
			jsonPatch(p, f[k], v, operations)
		} else {
			*operations = append(*operations, map[string]any{"op": "remove", "path": p})
		}
	}
	for _, k := range keysOf(t) {
		if _, has := f[k]; !has {
			p := pointer + "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(k)
			*operations = append(*operations, map[string]any{"op": "add", "path": p, "value": t[k]})
		}
	}
}

// mergePatch is a JSON merge patch.
func mergePatch(from, to any) any {
	f, fok := from.(map[string]any)
	t, tok := to.(map[string]any)
	if !fok || !tok {
		return to
	}
	patch := map[string]any{}
	for _, k := range keysOf(f) {
		v, has := t[k]
		switch {
		case !has:
			patch[k] = nil
		case string(render(f[k])) != string(render(v)):
			patch[k] = mergePatch(f[k], v)
		}
	}
	for _, k := range keysOf(t) {
		if _, has := f[k]; !has {
			patch[k] = t[k]
		}
	}
	return patch
}

// applies plays with several managers of one object.
func applies(sc *scenario) {
	desired := sc.base("a")
	delete(desired, "status")
	if sc.chance(40) { // from a client that kept its last intent in an annotation
		last := string(render(desired))
		old := clone(desired)
		put(old, last+"\n", "metadata", "annotations", "kubectl.kubernetes.io/last-applied-configuration")
		sc.create(old, "a", "fieldManager=kubectl-client-side-apply", "client-side apply")
	}
	for _, m := range sc.next(sc.resource.mutations) {
		object := desired
		if sc.chance(75) {
			if changed, _, ok := m.mutate(desired, sc.sampler); ok {
				object = changed
			}
		}
		if sc.chance(20) {
			object = sc.thin(object)
		}
		sc.apply(object, m.String())
		if sc.chance(15) && sc.objects["a"] != nil {
			sc.change(m, "")
		}
	}
}

// thin leaves out some of what an object says.
func (sc *scenario) thin(object map[string]any) map[string]any {
	object = clone(object)
	for _, key := range []string{"spec", "data", "metadata"} {
		if m, ok := object[key].(map[string]any); ok {
			for _, k := range keysOf(m) {
				if k != "name" && sc.chance(30) {
					delete(m, k)
				}
			}
		}
	}
	return object
}

func (sc *scenario) apply(object map[string]any, rule string) {
	query := url.Values{}
	if !sc.chance(3) {
		query.Set("fieldManager", one(sc, "one", "one", "two", "kubectl", strings.Repeat("m", 130)))
	}
	if sc.chance(40) {
		query.Set("force", one(sc, "true", "true", "false"))
	}
	if sc.chance(25) {
		query.Set("dryRun", "All")
	}
	if sc.chance(20) {
		query.Set("fieldValidation", one(sc, "Strict", "Warn", "Ignore", "Odd"))
	}
	data := render(object)
	if sc.chance(50) {
		if y, err := yaml.JSONToYAML(data); err == nil {
			data = y
		}
	}
	path, verb := sc.object("a"), "patch apply"
	if sc.chance(10) && len(sc.resource.Parts) > 0 {
		if p := one(sc, sc.resource.Parts...); slices.Contains(p.Verbs, "patch") && p.Kind == sc.resource.Kind {
			path, verb = path+"/"+p.Name, verb+" "+p.Name
		}
	}
	sc.ask(Request{
		Method: "PATCH", Path: path, Query: query.Encode(), Verb: verb, Rule: rule, Object: "a", Body: data,
		Headers: map[string]string{"Content-Type": "application/apply-patch+yaml", "Accept": "application/json"},
	})
}
