package image

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A pull ends that waits for what does not come, not one that unpacks what came.
func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var received atomic.Int64
		ctx, p := watchProgress(t.Context(), &received)
		defer p.stop()
		body := "text"
		ask := func() *http.Response {
			answer, err := p.count(roundTrip(func(*http.Request) (*http.Response, error) {
				return &http.Response{Body: io.NopCloser(strings.NewReader(body))}, nil
			})).RoundTrip(nil)
			if err != nil {
				t.Fatal(err)
			}
			return answer
		}
		time.Sleep(time.Hour)
		answer := ask()
		time.Sleep(stallTimeout - time.Second)
		if _, err := io.ReadAll(answer.Body); err != nil || received.Load() != int64(len(body)) {
			t.Errorf("%d bytes, %v", received.Load(), err)
		}
		time.Sleep(stallTimeout - time.Second)
		answer.Body.Close()
		answer.Body.Close()
		time.Sleep(time.Hour)
		if ctx.Err() != nil || p.cut() {
			t.Errorf("it ended: %v, cut %t", context.Cause(ctx), p.cut())
		}
		other := ask()
		ask().Body.Close()
		time.Sleep(stallTimeout)
		synctest.Wait()
		if !errors.Is(context.Cause(ctx), errNoProgress) {
			t.Errorf("nothing came, and it goes on: %v", context.Cause(ctx))
		}
		other.Body.Close()
	})
}
