package agent

import "time"

// Upstream's crash-loop back-off: the first restart is immediate, the next
// waits 10 seconds after the container's end, then twice as long each time up
// to five minutes; a container that ran for ten minutes starts afresh.
const (
	crashDelay    = 10 * time.Second
	crashMaxDelay = 300 * time.Second
)

// crashBackoff counts the restarts of one container. The zero value has seen
// none.
type crashBackoff struct {
	Delay   time.Duration
	Updated time.Time
}

func (b crashBackoff) expired(end time.Time) bool {
	return end.Sub(b.Updated) > 2*crashMaxDelay
}

// until returns when a container that ended at end may start again; the zero
// time means now.
func (b crashBackoff) until(end time.Time) time.Time {
	if b.Delay == 0 || b.expired(end) {
		return time.Time{}
	}
	return end.Add(b.Delay)
}

// next is the back-off after a restart, at now, of a container that ended at
// end.
func (b crashBackoff) next(end, now time.Time) crashBackoff {
	if b.Delay == 0 || b.expired(end) {
		return crashBackoff{Delay: crashDelay, Updated: now}
	}
	return crashBackoff{Delay: min(2*b.Delay, crashMaxDelay), Updated: now}
}
