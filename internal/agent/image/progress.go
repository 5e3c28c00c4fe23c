package image

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

// stallTimeout is how long a pull may receive nothing.
const stallTimeout = 5 * time.Minute

var errNoProgress = errors.New("nothing was received for 5 minutes")

// progress counts what a pull receives and ends it when that is nothing.
type progress struct {
	timer    *time.Timer
	cancel   context.CancelCauseFunc
	received *atomic.Int64 // bytes
}

// watchProgress returns a context that ends when nothing comes in any more.
// What does is added to received.
func watchProgress(ctx context.Context, received *atomic.Int64) (context.Context, *progress) {
	ctx, cancel := context.WithCancelCause(ctx)
	p := &progress{cancel: cancel, received: received}
	p.timer = time.AfterFunc(stallTimeout, func() { cancel(errNoProgress) })
	return ctx, p
}

func (p *progress) stop() { p.timer.Stop() }

// count lets the answers of a transport pass the counter.
func (p *progress) count(next http.RoundTripper) http.RoundTripper {
	return counter{progress: p, next: next}
}

type counter struct {
	progress *progress
	next     http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (c counter) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := c.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	answer.Body = countedBody{answer.Body, c.progress}
	return answer, nil
}

type countedBody struct {
	io.ReadCloser
	progress *progress
}

// Read implements io.Reader.
func (b countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.progress.received.Add(int64(n))
		b.progress.timer.Reset(stallTimeout)
	}
	return n, err
}
