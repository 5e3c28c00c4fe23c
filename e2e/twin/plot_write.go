package main

import (
	"net/url"
	"strings"
)

// delete asks to delete an object, or a collection where short is "".
func (sc *scenario) delete(short, query string, options map[string]any, rule string) {
	path, verb := sc.object(short), "delete"
	if short == "" {
		path, verb = sc.collection(), "deletecollection"
	}
	r := Request{Method: "DELETE", Path: path, Query: query, Headers: map[string]string{"Accept": "application/json"}, Verb: verb, Rule: rule}
	if options != nil {
		r.Body = render(options)
		r.Headers["Content-Type"] = "application/json"
	}
	sc.ask(r)
}

// deletes deletes with all options.
func deletes(sc *scenario) {
	sc.populate()
	for range 8 {
		short := "p" + itoa(sc.random.IntN(5))
		options, rule := sc.deleteOptions(short)
		query := url.Values{}
		if sc.chance(40) {
			key := one(sc, "gracePeriodSeconds", "propagationPolicy", "orphanDependents", "dryRun", "ignoreStoreReadErrorWithClusterBreakingPotential", "preconditions")
			query.Set(key, one(sc, "0", "1", "-1", "30", "x", "true", "false", "All", "Foreground", "Background", "Orphan", "None"))
			rule += " ?" + query.Encode()
			if sc.chance(60) {
				options = nil
			}
		}
		if sc.chance(30) {
			sc.finalize(short)
		}
		sc.delete(short, query.Encode(), options, rule)
		sc.get(short, "", "after deletion with "+rule)
		if sc.chance(40) {
			sc.release(short)
		}
	}
	if sc.resource.Namespaced {
		selector := url.Values{}
		selector.Set(one(sc, "labelSelector", "fieldSelector"), one(sc, "colour=red", "colour!=red", "metadata.name=p1", "a b", "limit"))
		options, rule := sc.deleteOptions("p1")
		sc.delete("", selector.Encode(), options, rule+" ?"+selector.Encode())
		sc.list(url.Values{}, "after deletion of a collection")
		sc.delete("", one(sc, "", "gracePeriodSeconds=0", "dryRun=All", "propagationPolicy=Foreground"), nil, "all")
		sc.list(url.Values{}, "after deletion of all")
	} else if sc.resource.Resource == "namespaces" {
		sc.delete("", "labelSelector=none", nil, "a collection that cannot be deleted")
	} else {
		sc.delete("", "labelSelector=colour%3Dred", nil, "those with a label")
	}
}

func (sc *scenario) deleteOptions(short string) (map[string]any, string) {
	options := map[string]any{}
	rule := "options"
	set := func(key string, v any) {
		options[key] = v
		rule += " " + key + "=" + string(render(v))
	}
	if sc.chance(20) {
		options["kind"], options["apiVersion"] = "DeleteOptions", one(sc, "v1", "meta.k8s.io/v1", "v2", "apps/v1")
		rule += " " + text(options, "apiVersion")
	}
	for range sc.random.IntN(3) {
		switch sc.random.IntN(7) {
		case 0:
			set("gracePeriodSeconds", one(sc, number("0"), number("1"), number("-1"), number("100")))
		case 1:
			set("propagationPolicy", one(sc, "Foreground", "Background", "Orphan", "Other", ""))
		case 2:
			set("orphanDependents", sc.chance(50))
		case 3:
			set("preconditions", one(sc, map[string]any{"uid": "${uid:" + short + "}"}, map[string]any{"uid": "other"}, map[string]any{"resourceVersion": "${revision:" + short + "}"}, map[string]any{"resourceVersion": "1"}, map[string]any{"uid": "other", "resourceVersion": "1"}))
		case 4:
			set("dryRun", one(sc, []any{"All"}, []any{"Other"}, []any{"All", "All"}, []any{}))
		case 5:
			set("unknownField", true)
		case 6:
			set("ignoreStoreReadErrorWithClusterBreakingPotential", sc.chance(50))
		}
	}
	return options, rule
}

// finalize holds an object, release lets it go.
func (sc *scenario) finalize(short string) {
	sc.merge(short, `{"metadata":{"finalizers":["`+one(sc, "example.com/hold", "foregroundDeletion", "orphan", "bad")+`"]}}`, "finalizers")
}

func (sc *scenario) release(short string) {
	sc.merge(short, `{"metadata":{"finalizers":`+one(sc, "null", "[]", `["example.com/new"]`)+`}}`, "finalizers gone")
}

func (sc *scenario) merge(short, body, rule string) {
	sc.ask(Request{
		Method: "PATCH", Path: sc.object(short), Headers: map[string]string{"Content-Type": "application/merge-patch+json", "Accept": "application/json"},
		Body: []byte(body), Verb: "patch merge", Rule: rule, Object: short,
	})
}

// paths asks for what is not there, in ways that are not offered, with bodies that
// are none.
func paths(sc *scenario) {
	sc.create(sc.base("a"), "a", "", "valid object")
	good := string(render(sc.base("a")))
	deep := strings.Repeat(`{"a":`, 3000) + "1" + strings.Repeat("}", 3000)
	bodies := []string{
		"", "{", "null", "[]", `"x"`, "{}", `{"kind":"Other"}`, `{"apiVersion":"v9","kind":"` + sc.resource.Kind.Kind + `"}`, good[:len(good)/2], good + good, good + "x",
		strings.Replace(good, `"metadata":{`, `"metadata":{"namespace":"elsewhere",`, 1), strings.Replace(good, `"name":"`+sc.name("a")+`"`, `"name":"other"`, 1),
		strings.Replace(good, `"metadata"`, `"metadata":{"name":"twice"},"metadata"`, 1), strings.Replace(good, `"metadata"`, `"METADATA"`, 1),
		strings.Replace(good, `"kind":"`, `"kind":"X`, 1), deep, `{"metadata":` + deep + `}`, "---\na: b\n", "k8s\x00xyz", `{"items":[]}`, `{"kind":"List","apiVersion":"v1","items":[]}`,
		strings.Replace(good, `"metadata":{`, `"metadata":{"uid":"u","resourceVersion":"5","creationTimestamp":"2020-01-01T00:00:00Z","generation":7,"selfLink":"x",`, 1),
		strings.Replace(good, `"metadata":{`, `"metadata":{"deletionTimestamp":"2020-01-01T00:00:00Z","deletionGracePeriodSeconds":3,`, 1),
		strings.Replace(good, `"metadata":{`, `"metadata":{"managedFields":[{"manager":"m","operation":"Apply","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{"f:x":{}}}],`, 1),
		strings.Replace(good, `"metadata":{`, `"metadata":{"managedFields":[{"manager":"m","operation":"Bad"}],`, 1),
		strings.Replace(good, `"metadata":{`, `"metadata":{"managedFields":[{}],`, 1),
		strings.Replace(good, `"metadata":{`, `"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"Pod","name":"a","uid":"1","controller":true},{"apiVersion":"v1","kind":"Pod","name":"b","uid":"2","controller":true}],`, 1),
	}
	for range 9 {
		body := one(sc, bodies...)
		method, path, verb := "POST", sc.collection(), "create"
		if sc.chance(40) {
			method, path, verb = "PUT", sc.object("a"), "update"
		}
		sc.ask(Request{
			Method: method, Path: path, Query: one(sc, "dryRun=All", "dryRun=All&fieldValidation=Strict", "dryRun=All&fieldValidation=Ignore"), Headers: jsonHeaders(), Body: []byte(body), Verb: verb, Rule: "body " + shorten(body, 60),
		})
	}
	for range 9 {
		method := one(sc, "GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "FOO")
		suffix := one(sc, "", "/", "/none", "/a/status", "/a/none", "/a/status/more", "/a%2Fb", "/A_B", "/..", "/a/scale", "//a", "/a/", "/"+long253, "/%20", "/ü")
		path := sc.collection() + suffix
		if sc.chance(30) {
			path = one(sc, "/api/v9/pods", "/apis/none/v1/x", "/apis/apps/v9/deployments", "/none", "/apis/apps", "/api/v1/namespaces/none/"+sc.resource.Resource, "/api/v1/none", "/api/v1/namespaces/"+sc.namespace+"/none",
				"/apis/"+sc.resource.Group+"/"+sc.resource.Version, "/apis/"+sc.resource.Group, sc.resource.path("none"), sc.resource.path("Bad_Name"), "/healthz/none", "/healthz", "/livez", "/readyz/ping", "/version", "/version/", "/openapi/v3/none", "/.well-known/none", "/metrics/none", "/logs", "/ui")
			method = one(sc, "GET", "GET", "POST", "DELETE")
		}
		if method == "DELETE" && suffix == "" {
			continue // it would delete others' objects
		}
		if path == sc.collection()+"/" && !sc.resource.Namespaced || !sc.resource.Namespaced && suffix == "" {
			continue // lists of what others have made
		}
		r := Request{Method: method, Path: path, Headers: map[string]string{"Accept": one(sc, "application/json", "*/*")}, Verb: strings.ToLower(method), Rule: "path " + strings.ReplaceAll(path, sc.namespace, "NS")}
		if method == "POST" || method == "PUT" {
			r.Body = []byte(good)
			r.Headers["Content-Type"] = "application/json"
			r.Query = "dryRun=All"
		}
		sc.ask(r)
	}
	for range 6 {
		key := one(sc, "dryRun", "fieldManager", "fieldValidation", "pretty", "timeout", "unknown", "force", "gracePeriodSeconds")
		value := one(sc, "All", "None", "", "x", "all", "true", long253, "ü", "a\nb", "1s", "-1s", "0s", "Strict", "Warn", "Ignore", "strict")
		query := url.Values{key: {value}}
		method, path, verb := "POST", sc.collection(), "create"
		body := string(render(sc.base("q")))
		if sc.chance(40) {
			method, path, verb, body = "PUT", sc.object("a"), "update", good
		}
		if key != "dryRun" {
			query.Set("dryRun", "All")
		}
		sc.ask(Request{Method: method, Path: path, Query: query.Encode(), Headers: jsonHeaders(), Body: []byte(body), Verb: verb, Rule: "?" + key + "=" + value, Object: "q"})
	}
}

// patches sends patches that are odd in themselves.
func patches(sc *scenario) {
	if !sc.beginAny() {
		return
	}
	for range 12 {
		way := one(sc, "json", "merge", "strategic")
		body := one(sc, oddPatches[way]...)
		query := one(sc, "", "", "dryRun=All", "fieldManager=p", "fieldValidation=Strict", "fieldValidation=Ignore", "force=true")
		sc.ask(Request{
			Method: "PATCH", Path: sc.object("a"), Query: query, Headers: map[string]string{"Content-Type": patchMedia[way], "Accept": "application/json"},
			Body: []byte(body), Verb: "patch " + way, Rule: shorten(body, 80), Object: "a",
		})
	}
}

var oddPatches = map[string][]string{
	"json": {
		`[]`, `{}`, `null`, `[{}]`, `[{"op":"add"}]`, `[{"op":"odd","path":"/x"}]`, `[{"op":"add","path":"/metadata/labels","value":{"a":"b"}}]`, `[{"op":"add","path":"metadata","value":1}]`,
		`[{"op":"remove","path":"/none"}]`, `[{"op":"replace","path":"/none","value":1}]`, `[{"op":"test","path":"/kind","value":"Other"}]`, `[{"op":"test","path":"/metadata/name","value":null}]`,
		`[{"op":"copy","from":"/metadata/name","path":"/metadata/annotations"}]`, `[{"op":"move","from":"/metadata/labels","path":"/metadata/annotations"}]`, `[{"op":"copy","from":"/none","path":"/x"}]`,
		`[{"op":"replace","path":"/metadata/name","value":"other"}]`, `[{"op":"replace","path":"/metadata/namespace","value":"other"}]`, `[{"op":"replace","path":"/kind","value":"Other"}]`, `[{"op":"replace","path":"/apiVersion","value":"v9"}]`,
		`[{"op":"add","path":"/metadata/finalizers","value":["example.com/a"]}]`, `[{"op":"add","path":"/metadata/finalizers/-","value":"example.com/b"}]`, `[{"op":"add","path":"/metadata/finalizers/9","value":"example.com/b"}]`,
		`[{"op":"remove","path":""}]`, `[{"op":"replace","path":"","value":{}}]`, `[{"op":"add","path":"/unknown","value":1}]`, `[{"op":"replace","path":"/metadata/resourceVersion","value":"1"}]`, `[{"op":"replace","path":"/metadata/uid","value":"1"}]`,
		`[{"op":"remove","path":"/metadata/managedFields"}]`, `[{"op":"replace","path":"/metadata/managedFields","value":[{}]}]`, `[{"op":"add","path":"/metadata/labels/a~1b","value":"c"}]`, `[{"op":"replace","path":"/metadata/creationTimestamp","value":"2020-01-01T00:00:00Z"}]`, `[{"op":"replace","path":"/metadata/deletionTimestamp","value":"2020-01-01T00:00:00Z"}]`,
	},
	"merge": {
		`{}`, `[]`, `null`, `1`, `{"metadata":null}`, `{"metadata":{"name":"other"}}`, `{"metadata":{"namespace":"other"}}`, `{"kind":"Other"}`, `{"apiVersion":"v9"}`, `{"kind":null}`, `{"spec":null}`, `{"status":null}`, `{"status":{"x":1}}`, `{"data":null}`,
		`{"metadata":{"labels":{"a":"b","c":null}}}`, `{"metadata":{"labels":null}}`, `{"metadata":{"labels":{"a":1}}}`, `{"metadata":{"labels":[]}}`, `{"metadata":{"finalizers":["example.com/a","example.com/a"]}}`, `{"metadata":{"finalizers":["bad"]}}`,
		`{"metadata":{"resourceVersion":"1"}}`, `{"metadata":{"resourceVersion":"${revision:a}"}}`, `{"metadata":{"uid":"x"}}`, `{"metadata":{"uid":"${uid:a}"}}`, `{"metadata":{"generation":99}}`, `{"metadata":{"creationTimestamp":null}}`, `{"metadata":{"managedFields":[]}}`, `{"metadata":{"managedFields":null}}`,
		`{"metadata":{"managedFields":[{}]}}`, `{"metadata":{"deletionTimestamp":"2020-01-01T00:00:00Z"}}`, `{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"Pod","name":"p","uid":"u"}]}}`, `{"metadata":{"ownerReferences":[{"name":"p"}]}}`, `{"unknown":1}`, `{"metadata":{"unknown":1}}`, `{"metadata":{"labels":{"a":"b"}},"metadata":{"labels":{"c":"d"}}}`, `{`, ``,
	},
	"strategic": {
		`{}`, `[]`, `null`, `{"$patch":"replace"}`, `{"$patch":"delete"}`, `{"$patch":"odd"}`, `{"metadata":{"$patch":"replace","name":"x"}}`, `{"metadata":{"labels":{"$patch":"replace","only":"this"}}}`, `{"metadata":{"labels":{"$patch":"delete"}}}`,
		`{"metadata":{"$deleteFromPrimitiveList/finalizers":["example.com/a"]}}`, `{"metadata":{"finalizers":["example.com/a"]}}`, `{"metadata":{"$setElementOrder/finalizers":["example.com/b","example.com/a"],"finalizers":["example.com/b"]}}`, `{"metadata":{"$deleteFromPrimitiveList/finalizers":"x"}}`,
		`{"metadata":{"ownerReferences":[{"uid":"u","apiVersion":"v1","kind":"Pod","name":"p"}]}}`, `{"metadata":{"ownerReferences":[{"uid":"u","$patch":"delete"}]}}`, `{"metadata":{"ownerReferences":[{"$patch":"replace"}]}}`, `{"metadata":{"ownerReferences":[{"name":"no uid"}]}}`,
		`{"spec":{"containers":[{"name":"c","image":"other"}]}}`, `{"spec":{"containers":[{"name":"new","image":"x"}]}}`, `{"spec":{"containers":[{"name":"c","$patch":"delete"}]}}`, `{"spec":{"containers":[{"image":"no name"}]}}`, `{"spec":{"$setElementOrder/containers":[{"name":"second"},{"name":"c"}]}}`,
		`{"spec":{"template":{"spec":{"containers":[{"name":"c","image":"other","ports":[{"containerPort":81}]}]}}}}`, `{"spec":{"template":{"spec":{"containers":[{"name":"c","env":[{"name":"A","$patch":"delete"}]}]}}}}`, `{"spec":{"template":{"spec":{"$setElementOrder/volumes":[{"name":"v"}],"volumes":[{"$retainKeys":["name","configMap"],"name":"v","configMap":{"name":"m"}}]}}}}`,
		`{"spec":{"strategy":{"$retainKeys":["type"],"type":"Recreate"}}}`, `{"spec":{"ports":[{"port":80,"targetPort":81}]}}`, `{"spec":{"ports":[{"port":82,"name":"more"}]}}`, `{"spec":{"ports":[{"port":80,"$patch":"delete"}]}}`, `{"spec":{"ports":[{"$patch":"replace"},{"port":99}]}}`, `{"spec":{"replicas":null}}`,
		`{"secrets":[{"name":"s","$patch":"delete"}]}`, `{"imagePullSecrets":[{"name":"more"}]}`, `{"spec":{"taints":[{"key":"k","effect":"NoSchedule","value":"other"}]}}`, `{"status":{"conditions":[{"type":"Ready","status":"False"}]}}`, `{"unknown":1}`, `{"metadata":{"resourceVersion":"1"}}`, `{`, ``,
	},
}
