package rest

import (
	"net/http"
	"testing"
)

func TestParsePath(t *testing.T) {
	core := groupVersion{"", "v1"}
	for _, c := range []struct {
		method, path string
		watch        bool
		want         path
		verb         string
	}{
		{"GET", "/api/v1/pods", false, path{groupVersion: core, resource: "pods"}, "list"},
		{"GET", "/api/v1/pods", true, path{groupVersion: core, resource: "pods"}, "watch"},
		{"GET", "/api/v1/namespaces", false, path{groupVersion: core, resource: "namespaces"}, "list"},
		{"GET", "/api/v1/namespaces/a", false, path{groupVersion: core, namespace: "a", resource: "namespaces", name: "a"}, "get"},
		{"GET", "/api/v1/namespaces/a/", false, path{groupVersion: core, namespace: "a", resource: "namespaces", name: "a"}, "get"},
		{"PUT", "/api/v1/namespaces/a/finalize", false, path{groupVersion: core, namespace: "a", resource: "namespaces", name: "a", subresource: "finalize"}, "update"},
		{"GET", "/api/v1/namespaces/a/pods/b", true, path{groupVersion: core, namespace: "a", resource: "pods", name: "b"}, "get"},
		{"POST", "/api/v1/namespaces/a/pods/b/exec", false, path{groupVersion: core, namespace: "a", resource: "pods", name: "b", subresource: "exec"}, "create"},
		{"GET", "/api/v1/nodes/n/proxy/stats/summary", false, path{groupVersion: core, resource: "nodes", name: "n", subresource: "proxy", tail: "stats/summary"}, "get"},
		{"GET", "/api/v1/watch/namespaces/a/pods/b", false, path{groupVersion: core, namespace: "a", resource: "pods", name: "b", watch: true}, "watch"},
		{"DELETE", "/apis/apps/v1/namespaces/a/deployments", false, path{groupVersion: groupVersion{"apps", "v1"}, namespace: "a", resource: "deployments"}, "deletecollection"},
		{"PATCH", "/apis/apps/v1/namespaces/a/deployments/d/scale", false, path{groupVersion: groupVersion{"apps", "v1"}, namespace: "a", resource: "deployments", name: "d", subresource: "scale"}, "patch"},
	} {
		got, ok := parsePath(c.path)
		if !ok || got != c.want {
			t.Errorf("parsePath(%q) = %+v, %v; want %+v", c.path, got, ok, c.want)
		}
		if verb := got.verb(c.method, c.watch); verb != c.verb {
			t.Errorf("%s %s watch=%v: verb %q, want %q", c.method, c.path, c.watch, verb, c.verb)
		}
	}
	for _, p := range []string{"/", "/api", "/api/", "/api/v1", "/api/v1/", "/apis", "/apis/apps", "/apis/apps/v1", "/apis/apps/v1/", "/apis//v1/x", "/healthz"} {
		if got, ok := parsePath(p); ok {
			t.Errorf("parsePath(%q) found a resource: %+v", p, got)
		}
	}
	if (&path{}).verb(http.MethodOptions, false) != "" {
		t.Error("OPTIONS has a verb")
	}
}

func TestSelectedName(t *testing.T) {
	for selector, want := range map[string]string{
		"metadata.name=a": "a", "metadata.name==a": "a", "spec.x=1,metadata.name=b": "b", "metadata.name!=a": "", "": "",
	} {
		if got, _ := selectedName(selector); got != want {
			t.Errorf("selectedName(%q) = %q, want %q", selector, got, want)
		}
	}
}
