package rest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestWantsOpenAPIProtobuf(t *testing.T) {
	const two, three = "application/com.github.proto-openapi.spec.v2", "application/com.github.proto-openapi.spec.v3"
	for _, c := range []struct {
		version, accept string
		protobuf, ok    bool
	}{
		{"v2", "", false, true},
		{"v2", "*/*", false, true},
		{"v2", "application/*", false, true},
		{"v2", "application/json", false, true},
		{"v2", two + "@v1.0+protobuf", true, true}, // kubectl's header
		{"v2", two + ".v1.0+protobuf", true, true},
		{"v2", two + ".v1.0+protobuf;q=0.5, application/json", false, true},
		{"v2", "text/html, " + two + "@v1.0+protobuf", true, true},
		{"v2", three + ".v1.0+protobuf", false, false},
		{"v2", "application/yaml", false, false},
		{"v3", three + ".v1.0+protobuf", true, true},
		{"v3", three + "@v1.0+protobuf", true, true},
		{"v3", two + "@v1.0+protobuf", false, false},
	} {
		if protobuf, ok := wantsOpenAPIProtobuf(c.accept, c.version); protobuf != c.protobuf || ok != c.ok {
			t.Errorf("%s, %q: %t %t, want %t %t", c.version, c.accept, protobuf, ok, c.protobuf, c.ok)
		}
	}
}

// fewDocuments are documents that say what they are.
type fewDocuments []string

func (d fewDocuments) Names() []string         { return d }
func (d fewDocuments) Hash(name string) string { return "HASH OF " + name }
func (d fewDocuments) Document(name string, protobuf bool) ([]byte, error) {
	return fmt.Appendf(nil, "%s %t", name, protobuf), nil
}

// largeDocuments are worth compressing.
type largeDocuments struct{ fewDocuments }

func (d largeDocuments) Document(string, bool) ([]byte, error) { return make([]byte, 1<<20), nil }

func TestOpenAPIDocument(t *testing.T) {
	h := New(Config{OpenAPI: fewDocuments{"v2", "v3/apis/apps/v1"}})
	ask := func(path string, header ...string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodGet, path, nil)
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		w := httptest.NewRecorder()
		h.paths[r.URL.Path](w, r)
		return w
	}
	for _, c := range []struct {
		path     string
		header   []string
		code     int
		body     string
		typ, tag string
	}{
		{"/openapi/v2", nil, 200, "v2 false", typeJSON, `"HASH OF v2"`},
		{
			"/openapi/v2", []string{"Accept", "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"}, 200, "v2 true",
			"application/com.github.proto-openapi.spec.v2.v1.0+protobuf", `"HASH OF v2"`,
		},
		{"/openapi/v2", []string{"If-None-Match", `"OTHER", "HASH OF v2"`}, 304, "", "", `"HASH OF v2"`},
		{"/openapi/v2", []string{"If-None-Match", `"HASH"`}, 200, "v2 false", typeJSON, `"HASH OF v2"`},
		{"/openapi/v2", []string{"Accept", "text/html"}, 406, "", "", ""},
		{"/openapi/v2?hash=OTHER", nil, 200, "v2 false", typeJSON, `"HASH OF v2"`},
		{"/openapi/v3/apis/apps/v1?hash=HASH+OF+v3/apis/apps/v1", nil, 200, "v3/apis/apps/v1 false", typeJSON, `"HASH OF v3/apis/apps/v1"`},
	} {
		w := ask(c.path, c.header...)
		got := w.Header()
		if w.Code != c.code || w.Body.String() != c.body || got.Get("Content-Type") != c.typ || got.Get("Etag") != c.tag || got.Get("Vary") != "Accept" {
			t.Errorf("%s %q: %d %q %v", c.path, c.header, w.Code, w.Body, got)
		}
	}
	h.OpenAPI = largeDocuments{fewDocuments{"v2"}}
	if vary := ask("/openapi/v2", "Accept-Encoding", "gzip").Header()["Vary"]; len(vary) != 2 || vary[0] != "Accept" {
		t.Errorf("a compressed document varies with %q", vary)
	}
	h.OpenAPI = fewDocuments{"v2", "v3/apis/apps/v1"}
	old := ask("/openapi/v3/apis/apps/v1?hash=OTHER")
	if to := old.Header().Get("Location"); old.Code != 301 || to != "/openapi/v3/apis/apps/v1?hash=HASH+OF+v3%2Fapis%2Fapps%2Fv1" {
		t.Errorf("an old address: %d %s", old.Code, to)
	}
	index := ask("/openapi/v3")
	want := `{"paths":{"apis/apps/v1":{"serverRelativeURL":"/openapi/v3/apis/apps/v1?hash=HASH+OF+v3%2Fapis%2Fapps%2Fv1"}}}`
	if index.Body.String() != want {
		t.Errorf("index %s", index.Body)
	}
	if again := ask("/openapi/v3", "If-None-Match", index.Header().Get("Etag")); again.Code != 304 {
		t.Errorf("the same index: %d", again.Code)
	}
}
