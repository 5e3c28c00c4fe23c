package main

import (
	"bytes"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
)

// watches changes a few objects and watches: from the revision before, from now on
// while it happens, and with the objects that are there.
func watches(sc *scenario) {
	sc.create(sc.base("first"), "first", "", "valid object")
	if sc.objects["first"] == nil {
		return
	}
	if sc.chance(50) {
		live := sc.watchRequest("${revision:first}", "live")
		var watching sync.WaitGroup
		var u, s Answer
		knows := sc.frozen()
		watching.Go(func() { u, s = sc.pair.do(sc.ctx, live, &knows) })
		sc.stir()
		watching.Wait()
		sc.record(live, u, s)
		return
	}
	sc.stir()
	switch {
	case sc.chance(60):
		sc.ask(sc.watchRequest("${revision:first}", "from a revision"))
	case sc.chance(60):
		r := sc.watchRequest("", "initial events")
		r.Query += "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
		sc.ask(r)
	default:
		r := sc.watchRequest(one(sc, "", "999999999", "x", "-1", "0"), "odd parameters")
		r.Query += "&" + one(sc, "sendInitialEvents=true", "sendInitialEvents=false", "resourceVersionMatch=NotOlderThan", "resourceVersionMatch=Exact", "sendInitialEvents=true&resourceVersionMatch=Exact&allowWatchBookmarks=true",
			"limit=1", "continue=x", "labelSelector=a+b", "fieldSelector=x", "allowWatchBookmarks=x", "sendInitialEvents=x", "sendInitialEvents=true&resourceVersionMatch=NotOlderThan", "timeoutSeconds=x")
		sc.ask(r)
	}
}

// frozen copies what is known, for a request that goes on beside others.
func (sc *scenario) frozen() knowledge {
	copied := knowledge{}
	for k, v := range sc.knows.upstream.texts {
		copied.upstream.set(k, v)
	}
	for k, v := range sc.knows.skiff.texts {
		copied.skiff.set(k, v)
	}
	return copied
}

// record compares the answers to a request that went on beside others.
func (sc *scenario) record(r Request, u, s Answer) {
	if sc.diverged || sc.ctx.Err() != nil {
		return
	}
	sc.steps = append(sc.steps, step{
		Request: r, Upstream: u, Skiff: s, At: fmt.Sprintf("%d/%d", sc.index, len(sc.steps)), Differences: compare(r, u, s, &sc.knows),
	})
}

// stir makes, changes and deletes objects.
func (sc *scenario) stir() {
	for i := range 3 {
		object := sc.base("w" + itoa(i))
		if i > 0 {
			put(object, "red", "metadata", "labels", "colour")
		}
		sc.create(object, "w"+itoa(i), "", "valid object")
	}
	sc.merge("w0", `{"metadata":{"labels":{"colour":"red"}}}`, "into the selection")
	sc.merge("w1", `{"metadata":{"labels":{"colour":"blue"}}}`, "out of the selection")
	sc.merge("w1", `{"metadata":{"labels":{"colour":"blue"}}}`, "no change")
	sc.delete("w2", "gracePeriodSeconds=0", nil, "while watched")
	sc.delete("w0", "", nil, "while watched")
	if sc.chance(30) && sc.resource.Namespaced {
		sc.delete("", "labelSelector=colour", nil, "while watched")
	}
}

func (sc *scenario) watchRequest(revision, rule string) Request {
	query := url.Values{"watch": {one(sc, "true", "1")}, "timeoutSeconds": {"1"}}
	if revision != "" {
		query.Set("resourceVersion", revision)
	}
	if sc.chance(40) || !sc.resource.Namespaced {
		query.Set("labelSelector", one(sc, "colour=red", "colour", "colour!=green,colour"))
	} else if sc.chance(30) {
		query.Set("fieldSelector", one(sc, "metadata.name=w0", "metadata.name!=w0"))
	}
	if sc.chance(30) {
		query.Set("allowWatchBookmarks", "true")
	}
	path := sc.collection()
	if sc.chance(10) {
		path = strings.Replace(path, "/v1/", "/v1/watch/", 1)
	}
	accept := one(sc, "application/json", "application/json", "application/json;as=Table;v=v1;g=meta.k8s.io", "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io", "application/yaml")
	return Request{
		Method: "GET", Path: path, Query: strings.NewReplacer("%24%7B", "${", "%7D", "}", "%3A", ":").Replace(query.Encode()),
		Headers: map[string]string{"Accept": accept}, Verb: "watch", Rule: rule + " " + accept, Watch: true,
	}
}

// event is one of a watch.
type event struct {
	kind   string
	name   string
	object any
}

// events reads a watch's answer. Bookmarks come when it suits a server, but for the
// one that ends the initial events.
func events(body []byte) ([]event, error) {
	var list []event
	for line := range bytes.SplitSeq(body, []byte("\n")) {
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		v, err := parse(line)
		if err != nil {
			return nil, fmt.Errorf("%w: %s", err, shorten(string(line), 200))
		}
		object := at(v, "object")
		e := event{kind: text(v, "type"), name: text(object, "metadata", "name"), object: object}
		if rows, _ := at(object, "rows").([]any); len(rows) == 1 {
			e.name = text(rows[0], "object", "metadata", "name")
		}
		if e.kind == "BOOKMARK" && text(object, "metadata", "annotations", "k8s.io/initial-events-end") == "" {
			continue
		}
		list = append(list, e)
	}
	return list, nil
}

// compareWatches compares what two watches told of each object.
func compareWatches(upstream, skiff Answer, k *knowledge) []Difference {
	u, errU := events(upstream.Body)
	s, errS := events(skiff.Body)
	if errU != nil || errS != nil {
		if string(upstream.Body) == string(skiff.Body) {
			return nil
		}
		return []Difference{{"watch: what is sent is not JSON lines", tell(upstream), tell(skiff)}}
	}
	var list []Difference
	byName := func(events []event) map[string][]event {
		m := map[string][]event{}
		for _, e := range events {
			m[e.name] = append(m[e.name], e)
		}
		return m
	}
	mu, ms := byName(u), byName(s)
	names := sortedKeys(mu)
	for _, n := range sortedKeys(ms) {
		if !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	for _, n := range names {
		ku, ks := kinds(mu[n]), kinds(ms[n])
		if ku != ks {
			list = append(list, Difference{"watch: events " + ku + " / " + ks, render2(mu[n]), render2(ms[n])})
			continue
		}
		for i := range mu[n] {
			for _, d := range compareObjects(mu[n][i].object, ms[n][i].object, k) {
				d.Shape = "watch " + mu[n][i].kind + ": " + d.Shape
				list = append(list, d)
			}
		}
	}
	return list
}

func kinds(events []event) string {
	var list []string
	for _, e := range events {
		list = append(list, e.kind)
	}
	return strings.Join(list, " ")
}

func render2(events []event) string {
	var b strings.Builder
	for _, e := range events {
		fmt.Fprintf(&b, "%s %s\n", e.kind, render(e.object))
	}
	return shorten(b.String(), 3000)
}
