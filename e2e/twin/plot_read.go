package main

import (
	"net/url"
	"strings"
)

// lives follows one object from its beginning to its end.
func lives(sc *scenario) {
	sc.create(sc.base("a"), "a", "", "valid object")
	sc.create(sc.base("a"), "a", "", "a second time")
	sc.get("a", "", "plain")
	for _, name := range furniture[sc.resource.Resource] {
		sc.ask(Request{Method: "GET", Path: sc.collection() + "/" + name, Headers: jsonHeaders(), Verb: "get", Rule: "what every cluster has"})
	}
	for range 4 {
		m := one(sc, sc.resource.mutations...)
		if sc.objects["a"] == nil {
			break
		}
		sc.change(m, sc.target(m))
		sc.get("a", "", "after a change")
	}
	if now := sc.objects["a"]; now != nil && !sc.diverged {
		// Nothing changes: no new revision. Then with an old one: a conflict.
		for _, revision := range []string{"${revision:a}", "1", "", "x", "99999999"} {
			body := bare(now.upstream, true)
			other := bare(now.skiff, true)
			put(body, revision, "metadata", "resourceVersion")
			put(other, revision, "metadata", "resourceVersion")
			sc.ask(Request{Method: "PUT", Path: sc.object("a"), Headers: jsonHeaders(), Body: render(body), Other: render(other), Verb: "update", Rule: "resourceVersion " + revision, Object: "a"})
		}
		body, other := bare(now.upstream, false), bare(now.skiff, false)
		put(body, "11111111-2222-3333-4444-555555555555", "metadata", "uid")
		put(other, "11111111-2222-3333-4444-555555555555", "metadata", "uid")
		sc.ask(Request{Method: "PUT", Path: sc.object("a"), Headers: jsonHeaders(), Body: render(body), Other: render(other), Verb: "update", Rule: "another uid", Object: "a"})
	}
	sc.generate()
	for _, p := range sc.resource.Parts {
		path := sc.object("a")
		if p.Name == "proxy" && sc.resource.Resource == "nodes" {
			// To a node that is there upstream dials its address, whose name it asks the
			// machine's DNS for; skiff goes through the tunnel that the node has dialled.
			path = sc.object("gone")
		}
		sc.ask(Request{Method: "GET", Path: path + "/" + p.Name, Headers: jsonHeaders(), Verb: "get " + p.Name, Rule: "plain"})
	}
	sc.inhabit("before deletion")
	sc.delete("a", "", nil, "plain")
	sc.get("a", "", "after deletion")
	sc.inhabit("while it ends")
	sc.delete("a", "", nil, "a second time")
	sc.ask(Request{Method: "PUT", Path: sc.object("new"), Headers: jsonHeaders(), Body: render(sc.base("new")), Verb: "update", Rule: "what is not there", Object: "new"})
	sc.ask(Request{Method: "PATCH", Path: sc.object("gone"), Headers: map[string]string{"Content-Type": "application/merge-patch+json"}, Body: []byte(`{}`), Verb: "patch merge", Rule: "what is not there"})
}

// furniture are the objects that a server makes itself before it is ready.
var furniture = map[string][]string{
	"namespaces":      {"default", "kube-system", "kube-public", "kube-node-lease"},
	"priorityclasses": {"system-node-critical", "system-cluster-critical"},
}

// inhabit makes something in a namespace.
func (sc *scenario) inhabit(rule string) {
	if sc.resource.Resource != "namespaces" {
		return
	}
	for _, body := range []string{`{"metadata":{"name":"c"}}`, `{"metadata":{"name":"c"},"data":{"a":"b"}}`} {
		sc.ask(Request{Method: "POST", Path: sc.object("a") + "/configmaps", Headers: jsonHeaders(), Body: []byte(body), Verb: "create", Rule: "in the namespace, " + rule})
	}
	sc.ask(Request{Method: "PUT", Path: sc.object("a") + "/configmaps/c", Headers: jsonHeaders(), Body: []byte(`{"metadata":{"name":"c"},"data":{"a":"c"}}`), Verb: "update", Rule: "in the namespace, " + rule})
	sc.ask(Request{Method: "DELETE", Path: sc.object("a") + "/configmaps/c", Headers: map[string]string{"Accept": "application/json"}, Verb: "delete", Rule: "in the namespace, " + rule})
}

// generate makes an object whose name the server completes.
func (sc *scenario) generate() {
	object := sc.base("x")
	meta, _ := object["metadata"].(map[string]any)
	delete(meta, "name")
	meta["generateName"] = sc.name(one(sc, "gen-", "gen", strings.Repeat("g", 240), "Bad_", "dot."))
	sc.ask(Request{Method: "POST", Path: sc.collection(), Headers: jsonHeaders(), Body: render(object), Verb: "create", Rule: "generateName", Object: "generated"})
}

func (sc *scenario) get(short, query, rule string) {
	sc.ask(Request{Method: "GET", Path: sc.object(short), Query: query, Headers: jsonHeaders(), Verb: "get", Rule: rule})
}

// lists makes a few objects and lists them in all ways.
func lists(sc *scenario) {
	sc.populate()
	for range 14 {
		query, rule := sc.listQuery()
		sc.list(query, rule)
	}
	sc.pages()
	sc.get("p1", "resourceVersion="+one(sc, "0", "1", "999999999", "x", "-1", "${revision:p2}"), "resourceVersion")
}

// populate makes five objects, two of them alike.
func (sc *scenario) populate() {
	for i := range 5 {
		object := sc.base("p" + itoa(i))
		put(object, []string{"red", "green", "blue"}[i%3], "metadata", "labels", "colour")
		if i%2 == 0 {
			put(object, "yes", "metadata", "labels", "even")
		}
		sc.create(object, "p"+itoa(i), "", "valid object")
	}
}

func (sc *scenario) list(query url.Values, rule string) (upstream, skiff Answer) {
	headers := jsonHeaders()
	if sc.chance(25) {
		headers["Accept"] = one(sc, accepts...)
	}
	if !sc.resource.Namespaced { // there are others' objects, too
		if selector := query.Get("labelSelector"); selector == "" {
			query.Set("labelSelector", "colour in (red,green,blue)")
		} else {
			query.Set("labelSelector", selector+",colour in (red,green,blue)")
		}
	}
	return sc.ask(Request{Method: "GET", Path: sc.collection(), Query: query.Encode(), Headers: headers, Verb: "list", Rule: rule})
}

var labelSelectors = []string{
	"colour=red", "colour==red", "colour!=red", "colour", "!colour", "colour in (red,blue)", "colour notin (red)", "even=yes,colour=red", "colour in ()", "colour=",
	"colour>1", "colour<x", "a b", "=", "colour in red", "Bad_Key!/x=1", "colour=bad value!", ",", "colour,", "!", "colour!in(x)", "x/y/z=1", "colour=" + long63, "ü=1", "colour in (a,,b)", "colour===red", "colour gt 3",
}

var fieldSelectors = []string{
	"metadata.name=p1", "metadata.name!=p1", "metadata.name==p1", "metadata.namespace=other", "metadata.name=p1,metadata.namespace=x", "spec.nodeName=node-1", "spec.nodeName=",
	"status.phase=Pending", "status.phase!=Running", "spec.unknown=x", "metadata.labels=x", "=", "metadata.name", "type=Opaque", "type=ClusterIP", "spec.clusterIP=None", "spec.type=NodePort",
	"involvedObject.name=p", "regarding.name=p", "reason=Started", "reportingComponent=", "source=agent", "spec.unschedulable=true", "spec.signerName=example.com/signer", "metadata.name=a\\,b", "spec.hostNetwork=true",
	"spec.restartPolicy=Always", "spec.schedulerName=other", "spec.serviceAccountName=default", "status.podIP=", "status.nominatedNodeName=", "name=p1", "status.replicas=0", "status.successful=1", "value=10", "addressType=IPv4",
}

var revisions = []string{"", "0", "1", "${revision:p1}", "${revision:p4}", "999999999", "x", "-1", "01"}

// listQuery draws a list's parameters.
func (sc *scenario) listQuery() (url.Values, string) {
	query, rules := url.Values{}, []string{}
	set := func(key, value string) {
		query.Set(key, value)
		rules = append(rules, key+"="+value)
	}
	for range 1 + sc.random.IntN(2) {
		switch sc.random.IntN(9) {
		case 0, 1:
			set("labelSelector", one(sc, labelSelectors...))
		case 2, 3:
			set("fieldSelector", one(sc, fieldSelectors...))
		case 4:
			set("limit", one(sc, "1", "2", "5", "0", "-1", "x", "500", "99999999999999999999"))
		case 5, 6:
			set("resourceVersion", one(sc, revisions...))
			if sc.chance(60) {
				set("resourceVersionMatch", one(sc, "Exact", "NotOlderThan", "Other", ""))
			}
			if query.Get("resourceVersion") == "1" || query.Get("resourceVersion") == "01" {
				query.Set("resourceVersionMatch", "NotOlderThan") // how far back exactly, is a matter of when was compacted
			}
		case 7:
			set("continue", one(sc, "x", "eyJ2IjoibWV0YS5rOHMuaW8vdjAiLCJydiI6MSwic3RhcnQiOiJhIn0", "e30"))
		case 8:
			set(one(sc, "pretty", "timeoutSeconds", "allowWatchBookmarks", "sendInitialEvents", "unknown", "watch"), one(sc, "true", "false", "0", "1", "x"))
		}
	}
	if query.Get("watch") == "true" || query.Get("watch") == "1" || query.Get("watch") == "x" {
		query.Set("watch", "false")
	}
	return query, strings.Join(rules, " ")
}

// pages reads a list in pages, each side with its own token.
func (sc *scenario) pages() {
	query := url.Values{"limit": {one(sc, "1", "2", "3")}}
	if sc.chance(30) {
		query.Set("labelSelector", "colour!=red")
	}
	for i := range 6 {
		if i > 0 {
			query.Set("continue", "TOKEN")
		}
		if !sc.resource.Namespaced && !query.Has("labelSelector") {
			query.Set("labelSelector", "colour")
		}
		u, s := sc.ask(Request{
			Method: "GET", Path: sc.collection(), Query: strings.Replace(query.Encode(), "TOKEN", "${continue}", 1), Headers: jsonHeaders(),
			Verb: "list", Rule: "page",
		})
		tu, ts := text(decode(u), "metadata", "continue"), text(decode(s), "metadata", "continue")
		if tu == "" || ts == "" {
			return
		}
		sc.knows.upstream.set("continue", url.QueryEscape(tu))
		sc.knows.skiff.set("continue", url.QueryEscape(ts))
		if sc.chance(10) {
			query.Set("resourceVersion", "1")
		}
	}
}

// accepts are what clients ask to be answered in.
var accepts = []string{
	"application/json", "application/yaml", "application/vnd.kubernetes.protobuf", "*/*", "application/*", "",
	"application/json;as=Table;v=v1;g=meta.k8s.io", "application/json;as=Table;g=meta.k8s.io;v=v1,application/json", "application/json;as=Table;v=v1beta1;g=meta.k8s.io",
	"application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io", "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json",
	"application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;v=v1;g=meta.k8s.io", "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io",
	"application/cbor", "text/html", "text/plain", "application/json;q=0.5,application/yaml", "application/vnd.kubernetes.protobuf,application/json", "application/json;stream=watch", "application/json;pretty=1", "application/xml,application/json",
	"application/json;as=Unknown;v=v1;g=meta.k8s.io", "application/cbor,application/json", "text/html,application/xhtml+xml,*/*;q=0.8", "application/yaml;as=Table;v=v1;g=meta.k8s.io",
}

// headers asks in all media types.
func headers(sc *scenario) {
	sc.populate()
	for range 8 {
		accept := one(sc, accepts...)
		path, verb := sc.object("p1"), "get"
		if sc.chance(50) {
			path, verb = sc.collection(), "list"
		}
		query := url.Values{}
		if verb == "list" && !sc.resource.Namespaced {
			query.Set("labelSelector", "colour")
		}
		if strings.Contains(accept, "Table") && sc.chance(50) {
			query.Set("includeObject", one(sc, "None", "Metadata", "Object", "Other"))
		}
		if sc.chance(20) {
			query.Set("pretty", one(sc, "true", "1", "false", "x"))
		}
		sc.ask(Request{Method: "GET", Path: path, Query: query.Encode(), Headers: map[string]string{"Accept": accept}, Verb: verb, Rule: "Accept " + accept})
	}
	for range 6 {
		media := one(sc, "application/json", "application/yaml", "application/vnd.kubernetes.protobuf", "text/plain", "", "application/cbor", "application/json; charset=utf-8", "application/xml", "bad/", "application/json;as=x")
		object := sc.base("h" + itoa(len(sc.steps)))
		accept := one(sc, accepts...)
		sc.ask(Request{
			Method: "POST", Path: sc.collection(), Query: "dryRun=All", Headers: map[string]string{"Content-Type": media, "Accept": accept}, Body: render(object),
			Verb: "create", Rule: "Content-Type " + media + ", Accept " + accept,
		})
	}
	for range 5 {
		media := one(sc, "application/json", "text/plain", "", "application/yaml", "application/merge-patch+json; charset=utf-8", "application/apply-patch+yaml", "application/strategic-merge-patch+json", "application/json-patch+json", "application/apply-patch+cbor", "application/merge-patch+json")
		sc.ask(Request{
			Method: "PATCH", Path: sc.object("p1"), Query: one(sc, "dryRun=All", "dryRun=All&fieldManager=x", "dryRun=All&force=true"), Headers: map[string]string{"Content-Type": media, "Accept": one(sc, accepts...)},
			Body: []byte(one(sc, `{}`, `[]`, `{"metadata":{"labels":{"a":"b"}}}`, ``, `null`, `"x"`)), Verb: "patch", Rule: "Content-Type " + media,
		})
	}
}
