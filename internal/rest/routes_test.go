package rest

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Requests that reach no handler are answered as upstream's router answers them.
func TestRouting(t *testing.T) {
	h := newTestHandler(Config{})
	const one = "/api/v1/namespaces/default/configmaps/a"
	const all = "/api/v1/namespaces/default/configmaps"
	yaml := http.Header{"Accept": {"application/yaml"}}
	merge := http.Header{"Content-Type": {"application/merge-patch+json"}}
	for _, c := range []struct {
		method, path string
		header       http.Header
		code         int
		message      string
	}{
		{"GET", "/apis/nope/v1", nil, 404, "404 page not found"},
		{"GET", "/apis/nope/v1/things", nil, 404, "404 page not found"},
		{"GET", "/apis/apps/v9", nil, 404, "the server could not find the requested resource"},
		{"GET", "/apis/apps/v9/deployments", nil, 404, "the server could not find the requested resource"},
		{"GET", "/api/v1/watch", nil, 500, "unable to determine kind and namespace from url, /api/v1/watch"},
		{"GET", "/api/v1/namespaces/default/bindings", nil, 405, "the server does not allow this method"},
		{"GET", "/healthz/", nil, 404, "404 page not found"},
		{"HEAD", one, nil, 405, ""},
		{"HEAD", "/version", nil, 405, ""},
		{"OPTIONS", one, nil, 405, ""},
		{"OPTIONS", "/api/v1/namespaces/default/pods/a:b:c:d/proxy/x", nil, 400, "invalid pod request"},
		{"POST", "/healthz", nil, 200, "ok"},
		{"POST", "/apis/apps", nil, 200, "preferredVersion"},
		{"POST", one, nil, 405, "the server does not allow this method"},
		{"PUT", "/api/v1/namespaces/default/configmaps", nil, 405, "the server does not allow this method"},
		{"PATCH", one, nil, 415, "415: Unsupported Media Type"},
		{"PATCH", one, http.Header{"Content-Type": {"application/json"}}, 415, "415: Unsupported Media Type"},
		{"PATCH", one + "?timeout=x", merge, 400, `invalid timeout specified in the request URL - time: invalid duration \"x\"`},
		{"GET", one, http.Header{"Accept": {"text/html"}}, 406, "406: Not Acceptable\\n\\nAvailable representations: application/json, application/yaml, application/vnd.kubernetes.protobuf"},
		{"GET", all + "?watch=1", http.Header{"Accept": {"text/html"}}, 406, "406: Not Acceptable"},
		{"GET", all + "?watch=1&resourceVersionMatch=Exact", yaml, 422, "resourceVersionMatch is forbidden for watch"},
		{"GET", "/version", yaml, 406, "Available representations: application/json"},
		{"GET", "/apis", http.Header{"Accept": {"text/html"}}, 406, "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf"},
	} {
		r := httptest.NewRequest(c.method, c.path, nil)
		for name, values := range c.header {
			r.Header[name] = values
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != c.code || !strings.Contains(w.Body.String(), c.message) {
			t.Errorf("%s %s %v: %d %s, want %d %s", c.method, c.path, c.header, w.Code, w.Body, c.code, c.message)
		}
	}
}

// Fields that came with later versions of the API are not in what is older.
func TestOldDocumentsHaveNoVersion(t *testing.T) {
	h := newTestHandler(Config{})
	for path, want := range map[string]string{"/api": "", "/api/v1": "", "/apis": "v1", "/apis/apps/v1": "v1"} {
		var got metav1.TypeMeta
		if err := json.Unmarshal(ask(h, "GET", path).Body.Bytes(), &got); err != nil || got.APIVersion != want || got.Kind == "" {
			t.Errorf("%s: %+v, %v; want version %q", path, got, err, want)
		}
	}
	if got := storageVersionHash(schema.GroupVersionKind{Version: "v1", Kind: "Pod"}); got != "xPOwRZ+Yhw8=" {
		t.Errorf("hash of Pods %s", got)
	}
}

func TestSummaries(t *testing.T) {
	for body, want := range map[string]string{
		"": "<empty>", "[]": "5b5d", `{"kind":7}`: `{"kind":7}`,
		`{"kind":"ConfigMap","apiVersion":"a/b/c"}`: `{"kind":"ConfigMap","apiVersio ...`,
	} {
		if got := summarize([]byte(body)); got != want {
			t.Errorf("summarize(%q) = %q, want %q", body, got, want)
		}
	}
}
