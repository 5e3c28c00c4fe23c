package image

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"k8s.io/client-go/util/flowcontrol"

	"github.com/skiff-sh/skiff/internal/agent"
	"github.com/skiff-sh/skiff/internal/config"
)

// No more pulls than are allowed ask a registry at the same time, and all have their turn.
func TestPullsTakeTurns(t *testing.T) {
	for _, limit := range []config.Pulls{{Serialize: true}, {MaxParallel: 2}, {}} {
		s := newStore(t)
		s.turns = newTurns(limit.Limit())
		const pulls = 4
		atOnce := limit.Limit()
		if atOnce == 0 {
			atOnce = pulls
		}
		var mu sync.Mutex
		now, most, asked := 0, 0, 0
		full := make(chan struct{})
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodHead {
				mu.Lock()
				asked++
				now++
				if most = max(most, now); asked == atOnce {
					close(full)
				}
				mu.Unlock()
				<-full // the first wait until as many as may be there are
				defer func() {
					mu.Lock()
					defer mu.Unlock()
					now--
				}()
			}
			http.NotFound(w, r)
		}))
		host := strings.TrimPrefix(server.URL, "http://")
		var all sync.WaitGroup
		for i := range pulls {
			all.Go(func() {
				if _, err := s.Pull(t.Context(), fmt.Sprintf("%s/app:%d", host, i), nil); !errors.Is(err, ErrNotFound) {
					t.Error(err)
				}
			})
		}
		all.Wait()
		server.Close()
		if most != atOnce || asked != pulls {
			t.Errorf("%+v: %d of %d at once", limit, most, asked)
		}
	}
}

func TestTooManyPulls(t *testing.T) {
	s := newStore(t)
	s.rate = flowcontrol.NewFakeNeverRateLimiter()
	host, _, _ := newRegistry(t, "")
	push(t, newImage(t, "wanted"), host+"/app:1", "")
	if _, err := s.Pull(t.Context(), host+"/app:1", nil); !errors.Is(err, ErrTooMany) || err.Error() != "pull QPS exceeded" {
		t.Errorf("pull: %v", err)
	}
	if _, err := s.PullNow(t.Context(), host+"/app:1"); err != nil {
		t.Errorf("somebody asks for it: %v", err)
	}
}

// What fails with every credential may be public, or known to the node.
func TestPublicAfterAllCredentials(t *testing.T) {
	s := newStore(t)
	var asked []string
	open := newBundle([][]byte{layerWith(t, "a", "text")}, nil)
	next := open.handler()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, _, given := r.BasicAuth()
		if given || len(asked) < 2 {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			if given && (len(asked) == 0 || asked[len(asked)-1] != user) {
				asked = append(asked, user)
			}
			return
		}
		next.ServeHTTP(w, r)
	}))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	credentials := []agent.Credential{{Registry: host, Username: "first", Password: "x"}, {Registry: host, Username: "second", Password: "x"}}
	if _, err := s.Pull(t.Context(), host+"/app:1", credentials); err != nil || fmt.Sprint(asked) != "[first second]" {
		t.Errorf("asked as %v: %v", asked, err)
	}
}
