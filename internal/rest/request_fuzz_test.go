package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/admission"
	"github.com/skiff-sh/skiff/internal/api"
	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
	"github.com/skiff-sh/skiff/internal/store/bolt"
)

// furnished is a handler over a real store with an object or two of some kinds.
func furnished(t testing.TB) *Handler {
	t.Helper()
	engine, err := bolt.Open(filepath.Join(t.TempDir(), "store.db"), bolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = engine.Close() })
	s, err := state.Open(t.Context(), engine, kind.All, state.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	door := api.New(api.Config{State: s, Admission: admission.New(s),
		ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.43.0.0/16")}, NodePorts: config.PortRange{First: 30000, Last: 32767}})
	meta := func(name string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Name: name, Namespace: "default", Labels: map[string]string{"a": "b"}}
	}
	for _, o := range []struct {
		kind *kind.Kind
		obj  kind.Object
	}{
		{kind.Namespace, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}}},
		{kind.ServiceAccount, &corev1.ServiceAccount{ObjectMeta: meta("default")}},
		{kind.ConfigMap, &corev1.ConfigMap{ObjectMeta: meta("m"), Data: map[string]string{"k": "v"}}},
		{kind.ConfigMap, &corev1.ConfigMap{ObjectMeta: meta("n")}},
		{kind.Pod, &corev1.Pod{ObjectMeta: meta("p"), Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}}},
		{kind.Service, &corev1.Service{ObjectMeta: meta("s"), Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}},
		{kind.Event, &corev1.Event{ObjectMeta: meta("e"), InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: "p"}, Reason: "R", Type: "Normal"}},
	} {
		if _, err := door.Create(t.Context(), api.Request{Kind: o.kind, Namespace: o.obj.GetNamespace(), Name: o.obj.GetName()}, o.obj); err != nil {
			t.Fatalf("create %T: %v", o.obj, err)
		}
	}
	h := newTestHandler(Config{API: door, Panicked: func(value any, stack []byte) { t.Errorf("panic: %v\n%s", value, stack) }})
	return h
}

var fuzzMethods = []string{"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "get", "TRACE"}

// Whatever is asked, in path, query, headers and body, is answered without a panic, and
// what is said to be JSON is. The seeds are one request of each sort.
func FuzzRequest(f *testing.F) {
	for _, seed := range []struct {
		method                                    uint8
		path, query, accept, contentType, payload string
	}{
		{0, "/api/v1/namespaces/default/pods/p", "", "application/json", "", ""},
		{0, "/api/v1/pods", "labelSelector=a+in+(b,c),!d&fieldSelector=spec.nodeName!%3D,metadata.name=p", "application/json;as=Table;g=meta.k8s.io;v=v1", "", ""},
		{0, "/api/v1/configmaps", "limit=1&pretty=1", "application/yaml", "", ""},
		{0, "/api/v1/configmaps", "limit=1&continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6NSwic3RhcnQiOiJkZWZhdWx0L21cdTAwMDAifQ", "application/vnd.kubernetes.protobuf", "", ""},
		{0, "/api/v1/watch/namespaces/default/configmaps/m", "timeoutSeconds=1&resourceVersion=1&allowWatchBookmarks=1", "application/json;stream=watch", "", ""},
		{0, "/api/v1/namespaces/default/configmaps", "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan", "application/json;as=Table;g=meta.k8s.io;v=v1", "", ""},
		{0, "/apis/events.k8s.io/v1/namespaces/default/events", "fieldSelector=regarding.name%3Dp", "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", "", ""},
		{1, "/api/v1/namespaces/default/configmaps", "dryRun=All&fieldValidation=Strict&fieldManager=x", "", "application/yaml", "kind: ConfigMap\napiVersion: v1\nmetadata: {name: &a x, labels: {b: *a}}\n"},
		{1, "/api/v1/namespaces/default/pods/p/eviction", "", "", "application/json", `{"kind":"Eviction","apiVersion":"policy/v1","metadata":{"name":"p"}}`},
		{1, "/api/v1/namespaces/default/pods/p/binding", "", "", "application/json", `{"target":{"kind":"Node","name":"n"}}`},
		{1, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", "", "", "", `{"spec":{"resourceAttributes":{"verb":"get","labelSelector":{"requirements":[{"key":"a","operator":"In"}]}}}}`},
		{1, "/apis/certificates.k8s.io/v1/certificatesigningrequests", "", "", "", `{"metadata":{"name":"c"},"spec":{"request":"LS0t","signerName":"a/b","usages":["any"]}}`},
		{1, "/api/v1/namespaces/default/services", "", "", "application/vnd.kubernetes.protobuf", "k8s\x00\x0a\x0f\x0a\x02v1\x12\x07Service\x12\x05\x0a\x03\x0a\x01x"},
		{2, "/api/v1/namespaces/default/configmaps/m", "", "", "application/json", `{"metadata":{"name":"m","managedFields":[{"manager":"x","operation":"Update","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{"f:data":{"f:k":{}}}}]},"data":{"k":"w"}}`},
		{3, "/api/v1/namespaces/default/configmaps/m", "", "", "application/json-patch+json", `[{"op":"test","path":"/data/k","value":"v"},{"op":"copy","from":"/data","path":"/metadata/annotations"},{"op":"remove","path":"/data/k"}]`},
		{3, "/api/v1/namespaces/default/configmaps/m", "", "", "application/merge-patch+json", `{"data":{"k":null,"x":"y"}}`},
		{3, "/api/v1/namespaces/default/pods/p", "", "", "application/strategic-merge-patch+json", `{"spec":{"$setElementOrder/containers":[{"name":"c"}],"containers":[{"name":"c","image":"j","$patch":"replace"}],"$retainKeys":["a"]}}`},
		{3, "/api/v1/namespaces/default/pods/p/status", "fieldManager=m&force=true", "", "application/apply-patch+yaml", "kind: Pod\napiVersion: v1\nstatus: {conditions: [{type: Ready, status: 'True'}]}\n"},
		{3, "/apis/apps/v1/namespaces/default/deployments/d/scale", "", "", "application/merge-patch+json", `{"spec":{"replicas":3}}`},
		{4, "/api/v1/namespaces/default/configmaps/n", "propagationPolicy=Foreground&gracePeriodSeconds=1", "", "", `{"preconditions":{"uid":"x"}}`},
		{4, "/api/v1/namespaces/default/events", "labelSelector=x", "", "", ""},
		{0, "/api/v1/namespaces/default/pods/p/log", "container=c&tailLines=-1", "", "", ""},
		{0, "/api/v1/namespaces/default/pods/http:p:80/proxy/a/../b", "x=%zz", "", "", ""},
		{0, "/openapi/v3/apis/apps/v1", "hash=x", "application/json", "", ""},
		{0, "/apis", "", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList", "", ""},
		{0, "//api//v1/%2f/pods/", "&&=;", "*/*;q=x", "", ""},
	} {
		f.Add(seed.method, seed.path, seed.query, seed.accept, seed.contentType, []byte(seed.payload))
	}
	h := furnished(f)
	f.Fuzz(func(t *testing.T, method uint8, path, query, accept, contentType string, payload []byte) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		r := httptest.NewRequest(fuzzMethods[int(method)%len(fuzzMethods)], "/", bytes.NewReader(payload)).WithContext(ctx)
		r.URL.Path, r.URL.RawQuery, r.RequestURI = path, query, path+"?"+query
		r.Header = http.Header{"Accept": {accept}, "Content-Type": {contentType}}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if h.Panics() > 0 {
			t.Fatal("a request panicked")
		}
		whole := ctx.Err() == nil && w.Body.Len() > 0 && w.Header().Get("Content-Encoding") == ""
		if whole && w.Header().Get("Content-Type") == typeJSON && r.URL.Query().Get("watch") == "" && !json.Valid(w.Body.Bytes()) && !isStream(path, query) {
			t.Errorf("%s %s?%s: %d, which is not JSON: %.300q", r.Method, path, query, w.Code, w.Body)
		}
	})
}

// isStream says whether what was asked for is answered by more than one document.
func isStream(path, query string) bool {
	p, ok := parsePath(path)
	return ok && p.watch || len(query) > 0 && bytes.Contains([]byte(query), []byte("watch"))
}

// A JSON patch is as long as its decoded list, and nothing weighs less than nothing.
func FuzzWeight(f *testing.F) {
	for _, seed := range []string{"[]", " [ ] ", "[0 ]", `["a"]`, `[{}]`, `[{},{}]`, `[1,"a,]\"",[2,3],{"x":[1,2]}]`, `[{"op":"add","path":"/a","value":[1,2]}]`, "{", "[[", "]", `"`, `"\`, "a: [b, {c: d}]"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var list []json.RawMessage
		if n := countOperations(data); json.Unmarshal(data, &list) == nil && bytes.HasPrefix(bytes.TrimSpace(data), []byte("[")) && n != len(list) {
			t.Errorf("%d operations in a list of %d: %q", n, len(list), data)
		}
		for _, m := range []media{mediaJSON, mediaYAML, mediaProtobuf} {
			if weigh(append(bytes.Repeat([]byte{' '}, lightBody), data...), m) < 0 {
				t.Errorf("%q weighs less than nothing", data)
			}
		}
	})
}
