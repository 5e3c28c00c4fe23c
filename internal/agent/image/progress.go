package image

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// stallTimeout is how long a pull may receive nothing that it waits for.
const stallTimeout = 5 * time.Minute

var errNoProgress = errors.New("nothing was received for 5 minutes")

// progress counts what a pull receives and ends it when that is nothing. While it
// asks for nothing, layers being unpacked, it may take its time.
type progress struct {
	cancel   context.CancelCauseFunc
	received *atomic.Int64 // bytes

	mu      sync.Mutex // of what follows
	timer   *time.Timer
	waiting int // answers that have not come whole
	broken  bool
}

// watchProgress returns a context that ends when nothing comes in any more.
// What does is added to received.
func watchProgress(ctx context.Context, received *atomic.Int64) (context.Context, *progress) {
	ctx, cancel := context.WithCancelCause(ctx)
	p := &progress{cancel: cancel, received: received}
	p.timer = time.AfterFunc(stallTimeout, func() { cancel(errNoProgress) })
	p.timer.Stop()
	return ctx, p
}

// stop ends the watch; nothing is asked for any more.
func (p *progress) stop() {
	p.timer.Stop()
	p.cancel(nil)
}

// await tells of answers that are waited for from now on, or no longer.
func (p *progress) await(more int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting += more; p.waiting > 0 && more >= 0 {
		p.timer.Reset(stallTimeout)
	} else if p.waiting == 0 {
		p.timer.Stop()
	}
}

// cut says whether an answer came in part or not at all: it may next time.
func (p *progress) cut() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.broken
}

// failed notes why an answer ends; who gave up is not cut.
func (p *progress) failed(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.broken = p.broken || err != nil && err != io.EOF && !errors.Is(err, context.Canceled)
}

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
	c.progress.await(1)
	answer, err := c.next.RoundTrip(r)
	if err != nil {
		c.progress.failed(err)
		c.progress.await(-1)
		return nil, err
	}
	answer.Body = &countedBody{ReadCloser: answer.Body, progress: c.progress}
	return answer, nil
}

type countedBody struct {
	io.ReadCloser
	progress *progress
	closed   sync.Once
}

// Read implements io.Reader.
func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.progress.received.Add(int64(n))
		b.progress.await(0)
	}
	b.progress.failed(err)
	return n, err
}

// Close implements io.Closer.
func (b *countedBody) Close() error {
	b.closed.Do(func() { b.progress.await(-1) })
	return b.ReadCloser.Close()
}
