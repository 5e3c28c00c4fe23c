package join

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"go.uber.org/zap"
)

// How long to wait between attempts, and how often the log repeats what it is
// waited for.
const (
	firstDelay = 500 * time.Millisecond
	lastDelay  = 15 * time.Second
	repeat     = 10 * time.Minute
)

// patience waits between attempts, longer each time, and tells what for.
type patience struct {
	log   *zap.Logger
	delay time.Duration
	said  string
	at    time.Time
}

func newPatience(log *zap.Logger) *patience { return &patience{log: log, delay: firstDelay} }

// after tells why the last attempt came to nothing, if that is news or long ago,
// and waits for the next. It returns false when the context ended.
func (p *patience) after(ctx context.Context, err error) bool {
	if what := advice(err); what != p.said || time.Since(p.at) >= repeat {
		p.said, p.at = what, time.Now()
		p.log.Warn("not joined yet; trying again", zap.Error(err))
	} else {
		p.log.Debug("not joined yet", zap.Error(err))
	}
	timer := time.NewTimer(max(p.step(), least(err)))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// step returns the delay to keep now. It is a different one on every machine:
// after a power cut all of them come at once.
func (p *patience) step() time.Duration {
	d := p.delay
	p.delay = min(2*d, lastDelay)
	return d/2 + rand.N(d/2)
}

// least is how long to wait at the least.
func least(err error) time.Duration {
	var p *Problem
	if errors.As(err, &p) {
		return p.Least
	}
	return 0
}
