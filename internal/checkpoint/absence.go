package checkpoint

import (
	"context"
	"math/rand/v2"
	"net/http"
	"time"

	"go.uber.org/zap"
)

// absence is a time in which no server answers.
type absence struct {
	since time.Time
	over  chan struct{} // closed when a server answers
	ask   string        // URL that any server answers
}

// How long to wait before a server is looked for again: twice as long each
// time. A random part spreads the nodes when a server comes back.
const (
	firstProbe = 500 * time.Millisecond
	lastProbe  = 5 * time.Second
	// probeTimeout is for one look. The attempt to connect goes on behind it,
	// and the next look begins with the server that answered last.
	probeTimeout = 5 * time.Second
)

// absent returns the absence that lasts, or nil.
func (c *Checkpoint) absent() *absence {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.away
}

// lose notes that a request found no server.
func (c *Checkpoint) lose(r *http.Request, why error) *absence {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.away == nil {
		c.away = &absence{
			since: time.Now(), over: make(chan struct{}),
			ask: r.URL.Scheme + "://" + r.URL.Host + "/livez",
		}
		c.Log.Warn("no server answers; the node goes on with what they last said", zap.Error(why))
		poke(c.lost)
		// Nothing more will come to wait for, and what is known is needed from now on.
		c.due.hurry()
		poke(c.wake)
	}
	return c.away
}

// answered notes that a server answers. What waited for one ends, for its
// client to ask again.
func (c *Checkpoint) answered() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.met {
		c.met = true
		c.begun(time.Now())
	}
	if c.away == nil {
		return
	}
	c.Log.Info("a server answers again", zap.Duration("away", time.Since(c.away.since)))
	close(c.away.over)
	c.away = nil
}

// runProbe looks for a server while none answers.
func (c *Checkpoint) runProbe(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.lost:
		}
		if away := c.absent(); away != nil {
			c.await(ctx, away)
		}
	}
}

// await returns when the absence is over or the context ends.
func (c *Checkpoint) await(ctx context.Context, away *absence) {
	for delay := firstProbe; ; delay = min(2*delay, lastProbe) {
		timer := time.NewTimer(delay/2 + rand.N(delay/2))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-away.over:
			timer.Stop()
			return
		case <-timer.C:
		}
		c.probe(ctx, away)
	}
}

// probe asks once.
func (c *Checkpoint) probe(ctx context.Context, away *absence) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, away.ask, nil)
	if err != nil {
		c.Log.Error("look for a server", zap.Error(err))
		return
	}
	response, err := c.pass(r)
	if err != nil {
		c.Log.Debug("no server answers yet", zap.Error(err))
		return
	}
	_ = response.Body.Close() // that it came is all there is to know
}

// poke wakes whoever waits on a channel of capacity one.
func poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
