package main

import (
	"net/url"
	"slices"
)

// parts goes through an object's subresources: the bodies that are posted to them,
// and those that are objects of another kind.
func parts(sc *scenario) {
	if len(sc.resource.Parts) == 0 {
		creates(sc)
		return
	}
	for _, p := range sc.resource.Parts {
		switch {
		case p.Name == "proxy" || p.Name == "log" || p.Name == "exec" || p.Name == "attach" || p.Name == "portforward":
			sc.connect(p)
		case len(p.bodies) > 0:
			for i := range 3 {
				if i == 0 || !slices.Contains([]string{"token"}, p.Name) {
					sc.clearIfDirty()
					if !sc.beginAny() {
						return
					}
				}
				posts(sc, p, sc.object("a")+"/"+p.Name)
				sc.get("a", "", "after "+p.Name)
			}
		case p.Kind != sc.resource.Kind && slices.Contains(p.Verbs, "update"):
			sc.clearIfDirty()
			if !sc.beginAny() {
				return
			}
			sc.convert(p)
		case slices.Contains(p.Verbs, "update"):
			sc.clearIfDirty()
			c := sc.resource.changing[p.Name].at(sc.turn)
			if !sc.begin(c.Base) {
				return
			}
			sc.changeChapter(c, p.Name)
		}
	}
}

func (sc *scenario) clearIfDirty() {
	if sc.dirty {
		sc.clear()
	}
	sc.objects = map[string]*twins{}
}

// belongs says whether a field is one that a subresource is for.
func belongs(path []string, part string) bool {
	switch part {
	case "ephemeralcontainers":
		return len(path) > 1 && path[1] == "ephemeralContainers"
	case "resize":
		own := len(path) > 1 && slices.Contains([]string{"resources", "containers", "initContainers"}, path[1])
		return path[0] == "spec" && own && (slices.Contains(path, "resources") || slices.Contains(path, "resizePolicy"))
	case "finalize":
		return path[0] == "spec" || slices.Contains(path, "finalizers")
	case "approval":
		return path[0] == "status"
	}
	return path[0] == part
}

// posts posts a body to a path, as it is and with something odd about it, one or many at
// once.
func posts(sc *scenario, p Part, path string) {
	if len(p.bodies) == 0 {
		return
	}
	b := p.bodies[sc.turn%len(p.bodies)]
	turn := sc.turn / len(p.bodies)
	tries := [][]Mutation{nil}
	for i := range batch {
		if len(b.mutations) > 0 {
			tries = append(tries, []Mutation{b.mutations[(turn*batch+i)%len(b.mutations)]})
		}
	}
	tries = append(tries, b.plan.at(turn).Packs...)
	for i, pack := range tries {
		for try := 0; try <= retries && (len(pack) > 0 || i+try == 0); try++ {
			object, list := sc.posted(b, pack)
			if len(list) == 0 && i > 0 {
				break
			}
			answer, done := sc.post(p, path, object, list, i < len(tries)-1)
			if done && sc.dirty && p.Name != "token" && p.Name != "" && i > 3 {
				return
			}
			pack = nil
			for _, d := range innocent(list, answer) {
				pack = append(pack, d.Mutation)
			}
		}
	}
}

// posted is a body with what of a pack can be done to it.
func (sc *scenario) posted(b body, pack []Mutation) (map[string]any, []done) {
	object := sc.settle(b.object, "a")
	if at(b.object, "metadata", "name") == nil {
		if meta, ok := object["metadata"].(map[string]any); ok {
			delete(meta, "name")
			if len(meta) == 0 {
				delete(object, "metadata")
			}
		}
	}
	var list []done
	for _, m := range pack {
		if changed, pointer, ok := m.mutate(object, sc.sampler); ok {
			object = changed
			list = append(list, done{m, pointer})
		}
	}
	return object, list
}

// post posts a body, and says whether that is meant; what a part may do only once is
// often tried without being done.
func (sc *scenario) post(p Part, path string, object map[string]any, list []done, more bool) (Answer, bool) {
	query := url.Values{}
	if sc.chance(50) && (p.Name == "binding" || p.Name == "eviction") && more {
		query.Set("dryRun", "All")
	}
	if sc.chance(30) {
		query.Set("fieldValidation", one(sc, "Strict", "Ignore"))
	}
	rule := "valid object"
	if len(list) > 0 {
		rule = ruleOf(list)
	}
	answer, _ := sc.ask(Request{
		Method: "POST", Path: path, Query: query.Encode(), Headers: jsonHeaders(), Body: render(object),
		Verb: "create " + p.Name, Rule: rule,
	})
	return answer, !query.Has("dryRun")
}

// convert changes a subresource that is an object of another kind: a scale.
func (sc *scenario) convert(p Part) {
	path := sc.object("a") + "/" + p.Name
	u, s := sc.ask(Request{Method: "GET", Path: path, Headers: jsonHeaders(), Verb: "get " + p.Name, Rule: "plain"})
	now := twins{}
	now.upstream, _ = decode(u).(map[string]any)
	now.skiff, _ = decode(s).(map[string]any)
	root := sc.resource.schemas.kinds[p.Kind]
	if now.upstream == nil || now.skiff == nil || root == nil {
		return
	}
	all := mutations(sc.resource.schemas.fields(root))
	for range 10 {
		m := one(sc, all...)
		seed := sc.random.Uint64()
		nu, _ := m.repeat(now.upstream, sc.sampler, seed)
		ns, _ := m.repeat(now.skiff, sc.sampler, seed)
		if nu == nil || ns == nil {
			continue
		}
		r := Request{Method: "PUT", Path: path, Headers: jsonHeaders(), Body: render(bare(nu, true)), Other: render(bare(ns, true)), Verb: "update " + p.Name, Rule: m.String()}
		if way := one(sc, "update", "merge", "json", "strategic"); way != "update" {
			r.Method, r.Verb = "PATCH", "patch "+way+" "+p.Name
			r.Headers = map[string]string{"Content-Type": patchMedia[way], "Accept": "application/json"}
			r.Body, r.Other = sc.patch(way, now.upstream, nu), sc.patch(way, now.skiff, ns)
		}
		if sc.chance(50) {
			r.Query = "dryRun=All"
		}
		u, s := sc.ask(r)
		if u.Code == 200 && s.Code == 200 && r.Query == "" {
			now.upstream, _ = decode(u).(map[string]any)
			now.skiff, _ = decode(s).(map[string]any)
		}
	}
	sc.get("a", "", "after "+p.Name)
}

// connect asks for a connection to a Pod or node that is not there to be reached.
func (sc *scenario) connect(p Part) {
	sc.clearIfDirty()
	if !sc.beginAny() {
		return
	}
	for range 3 {
		query := url.Values{}
		key := one(sc, "container", "follow", "tailLines", "sinceSeconds", "sinceTime", "limitBytes", "previous", "command", "stdin", "stdout", "tty", "ports", "path", "stream", "timestamps", "insecureSkipTLSVerifyBackend")
		query.Set(key, one(sc, "", "none", "c", "true", "-1", "0", "x", "2020-01-01T00:00:00Z", "80"))
		if sc.chance(30) {
			query.Set(one(sc, "sinceTime", "sinceSeconds", "container"), one(sc, "5", "2020-01-01T00:00:00Z", "none"))
		}
		path := sc.object("a")
		if sc.chance(30) {
			path = sc.object("gone")
		}
		if p.Name == "proxy" && path != sc.object("gone") {
			continue // an address that answers nobody takes long
		}
		sc.ask(Request{Method: "GET", Path: path + "/" + p.Name, Query: query.Encode(), Headers: map[string]string{"Accept": "application/json"}, Verb: "get " + p.Name, Rule: "?" + query.Encode()})
	}
}
