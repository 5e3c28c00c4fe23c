//go:build !race

// The detector makes all frames larger.

package rest

import (
	"context"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"sync"
	"testing"

	"github.com/skiff-sh/skiff/internal/api"
	"github.com/skiff-sh/skiff/internal/auth"
	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
	"github.com/skiff-sh/skiff/internal/store/bolt"
)

// waitingFrames is how much of its stack net/http uses before it calls a handler.
type waitingFrames [800]byte

// Thousands of watches wait in a large cluster: each has a stack of 8 KiB while it
// does, which is what is left of a larger one of which less than a quarter is used.
func TestWaitingWatchesHaveSmallStacks(t *testing.T) {
	engine, err := bolt.Open(filepath.Join(t.TempDir(), "store.db"), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	s, err := state.Open(t.Context(), engine, kind.All, state.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	h := newTestHandler(Config{
		API: api.New(api.Config{State: s}),
		Authenticator: authenticator(func(*http.Request) (auth.User, bool, error) {
			var deep [10 << 10]byte // as what verifies certificates and tokens
			runtime.KeepAlive(&deep)
			return auth.User{Name: "u"}, true, nil
		}),
	})
	const watches = 500
	ctx, stop := context.WithCancel(t.Context())
	var begun, running sync.WaitGroup
	before := stackBytes()
	for range watches {
		begun.Add(1)
		running.Go(func() {
			var used waitingFrames
			r := httptest.NewRequest("GET", "/api/v1/pods?watch=true&fieldSelector=spec.nodeName%3Dn1", nil).WithContext(ctx)
			h.ServeHTTP(&beginning{begun: sync.OnceFunc(begun.Done)}, r)
			runtime.KeepAlive(&used)
		})
	}
	begun.Wait()
	each := (stackBytes() - before) / watches
	stop()
	running.Wait()
	if each > 9<<10 {
		t.Errorf("a watch that waits has %d bytes of stack: look for large frames between ServeHTTP and Watch.Next", each)
	}
}

// stackBytes is what all goroutines have, once they have given back what they can.
func stackBytes() uint64 {
	for range 3 {
		runtime.GC()
	}
	sample := []metrics.Sample{{Name: "/memory/classes/heap/stacks:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// beginning is an answer that tells when it has begun.
type beginning struct{ begun func() }

func (b *beginning) Header() http.Header         { return http.Header{} }
func (b *beginning) Write(p []byte) (int, error) { return len(p), nil }
func (b *beginning) WriteHeader(int)             {}
func (b *beginning) Flush()                      { b.begun() }
