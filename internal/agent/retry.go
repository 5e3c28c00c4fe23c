package agent

import (
	"context"
	"time"

	"go.uber.org/zap"
)

// retry doubles a delay up to a limit.
type retry struct{ first, most, next time.Duration }

func newRetry(first, most time.Duration) *retry { return &retry{first, most, first} }

func (r *retry) reset() { r.next = r.first }

// step returns the delay to keep now.
func (r *retry) step() time.Duration {
	d := r.next
	r.next = min(2*d, r.most)
	return d
}

// wait keeps the next delay; it returns false if the context ended first.
func (r *retry) wait(ctx context.Context) bool {
	t := time.NewTimer(r.step())
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// complaint is about what fails again and again while no server answers, which
// may be for weeks: it is made once.
type complaint struct {
	log  *zap.Logger
	last string
}

func (c *complaint) tell(what string, err error) {
	if text := err.Error(); text != c.last {
		c.last = text
		c.log.Warn(what, zap.Error(err))
		return
	}
	c.log.Debug(what, zap.Error(err))
}

func (c *complaint) end() { c.last = "" }
