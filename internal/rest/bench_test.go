package rest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/skiff-sh/skiff/internal/admission"
	"github.com/skiff-sh/skiff/internal/api"
	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
	"github.com/skiff-sh/skiff/internal/store/bolt"
)

// The store does not sync here, and nothing is sent: what is measured is what one
// request costs from its head to its answer.

func newBenchHandler(b *testing.B) *Handler {
	engine, err := bolt.Open(filepath.Join(b.TempDir(), "state.db"), bolt.Options{NoSync: true})
	if err != nil {
		b.Fatal(err)
	}
	s, err := state.Open(b.Context(), engine, kind.All, state.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close(); engine.Close() })
	h := newTestHandler(Config{API: api.New(api.Config{State: s, Admission: admission.New(s)})})
	demand(b, h, "POST", "/api/v1/namespaces", `{"metadata":{"name":"default"}}`)
	demand(b, h, "POST", "/api/v1/namespaces/default/serviceaccounts", `{"metadata":{"name":"default"}}`)
	return h
}

// answer takes what a handler writes and keeps none of it.
type answer struct {
	header http.Header
	code   int
	bytes  int
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(code int)        { a.code = code }
func (a *answer) Write(p []byte) (int, error) { a.bytes += len(p); return len(p), nil }
func (a *answer) Flush()                      {}
func newAnswer() *answer                      { return &answer{header: http.Header{}} }

// demand makes a request that must succeed and returns the answer's size.
func demand(b *testing.B, h http.Handler, method, path, body string) int {
	b.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Accept", "application/json, */*")
	r.Header.Set("Accept-Encoding", "gzip")
	r.Header.Set("User-Agent", "bench/v1")
	r.Header.Set("Content-Type", "application/json")
	if method == "PATCH" {
		r.Header.Set("Content-Type", "application/merge-patch+json")
	}
	w := newAnswer()
	h.ServeHTTP(w, r)
	if w.code/100 != 2 {
		b.Fatalf("%s %s: %d", method, path, w.code)
	}
	return w.bytes
}

func benchMap(name, tag string) string {
	return fmt.Sprintf(`{"metadata":{"name":%q},"data":{"payload":%q,"tag":%q}}`, name, strings.Repeat("x", 1024), tag)
}

const benchPod = `{"kind":"Pod","apiVersion":"v1","metadata":{"generateName":"pod-","labels":{"app":"bench"}},"spec":{"containers":[{"name":"hello",
"image":"registry.example/hello:1","command":["/hello","--listen",":8080"],"env":[{"name":"GREETING","value":"hello"}],"ports":[{"containerPort":8080}],
"resources":{"limits":{"cpu":"10m","memory":"16Mi"},"requests":{"cpu":"10m","memory":"16Mi"}},"readinessProbe":{"exec":{"command":["/hello","--check"]}}}],
"schedulerName":"nobody"},"status":{}}`

func BenchmarkRequests(b *testing.B) {
	const maps, pods = "/api/v1/namespaces/default/configmaps", "/api/v1/namespaces/default/pods"
	for _, c := range []struct {
		name string
		do   func(h http.Handler, i int)
	}{
		{"get", func(h http.Handler, _ int) { demand(b, h, "GET", maps+"/m0", "") }},
		{"create", func(h http.Handler, i int) { demand(b, h, "POST", maps, benchMap("c"+strconv.Itoa(i), "")) }},
		{"update", func(h http.Handler, i int) {
			demand(b, h, "PUT", maps+"/m"+strconv.Itoa(i%1000), benchMap("m"+strconv.Itoa(i%1000), strconv.Itoa(i)))
		}},
		{"patch", func(h http.Handler, i int) {
			demand(b, h, "PATCH", maps+"/m"+strconv.Itoa(i%1000), fmt.Sprintf(`{"data":{"tag":"%d"}}`, i))
		}},
		{"pod", func(h http.Handler, i int) { demand(b, h, "POST", pods, benchPod) }},
		{"list1000", func(h http.Handler, _ int) { demand(b, h, "GET", maps+"?limit=1000", "") }},
	} {
		b.Run(c.name, func(b *testing.B) {
			h := newBenchHandler(b)
			for i := range 1000 {
				demand(b, h, "POST", maps, benchMap("m"+strconv.Itoa(i), ""))
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				c.do(h, i)
			}
		})
	}
}
