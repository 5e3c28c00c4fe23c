package pki

import (
	"context"
	"time"

	"go.uber.org/zap"
)

const (
	// recheck is how long a Renewal sleeps at most. A certificate is due in
	// months, but a timer counts what this machine's clock has ticked, not what
	// it was set forward by, and not the time that the machine slept.
	recheck = day

	firstRetry = time.Second
	lastRetry  = 10 * time.Minute
)

// Renewal keeps an Identity from ending while it is in use.
type Renewal struct {
	Name     string // for the log
	Identity *Identity
	Clock    Clock
	// Until is optional: when the authority ends. A certificate that lasts as long
	// is not replaced, for no other lasts longer.
	Until time.Time
	// Obtain gets the next certificate, and keeps it wherever it is to be found
	// after a restart. It may take long.
	Obtain func(context.Context) (Pair, error)
	// Outdated is optional: it says that a certificate is not what is wanted any
	// more, although it does not end yet. It is asked again when Changed, which is
	// optional too, brings something.
	Outdated func(Pair) bool
	Changed  <-chan struct{}
	Log      *zap.Logger
}

// Run replaces the Identity's certificate when two thirds of its life are over,
// or when it is outdated, until the context ends. What cannot be had is tried
// again, later each time.
func (r Renewal) Run(ctx context.Context) error {
	retry := firstRetry
	for {
		jumped := r.Clock.Jumped()
		wait, due := r.due()
		if due {
			switch err := r.renew(ctx); {
			case ctx.Err() != nil:
				return nil
			case err != nil:
				r.tell(err, retry)
				wait, retry = retry, min(2*retry, lastRetry)
			default:
				retry = firstRetry
				if wait, due = r.due(); due { // it is no better than the last
					wait = recheck
				}
			}
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-jumped:
		case <-r.Changed:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return nil
		}
	}
}

// due says whether a new certificate is wanted, and when to look again.
func (r Renewal) due() (time.Duration, bool) {
	p := r.Identity.Pair()
	if r.Outdated != nil && r.Outdated(p) {
		return recheck, true
	}
	end := p.Certificate.NotAfter
	if !r.Until.IsZero() && !end.Before(r.Until) {
		return recheck, false
	}
	left := end.Add(-renewBefore).Sub(r.Clock.Latest())
	return min(max(left, time.Second), recheck), left <= 0
}

func (r Renewal) renew(ctx context.Context) error {
	next, err := r.Obtain(ctx)
	if err != nil {
		return err
	}
	r.Identity.Set(next)
	r.Log.Info("certificate renewed", zap.String("name", r.Name), zap.Time("ends", next.Certificate.NotAfter))
	return nil
}

// tell complains once, and then about a certificate that has ended.
func (r Renewal) tell(err error, retry time.Duration) {
	end := r.Identity.Pair().Certificate.NotAfter
	fields := []zap.Field{zap.String("name", r.Name), zap.Time("ends", end), zap.Error(err)}
	switch {
	case !end.After(r.Clock.Latest()):
		r.Log.Error("certificate has ended and cannot be renewed; trying again", fields...)
	case retry == firstRetry:
		r.Log.Warn("certificate not renewed; trying again", fields...)
	default:
		r.Log.Debug("certificate not renewed", fields...)
	}
}
