package uplink

import (
	"sync"
	"time"
)

// Apart is how far two clocks may differ and still count as the same: Times of
// the servers are known to the second, and it may take seconds to hear them.
const Apart = 30 * time.Second

// longest is how long an answer may take that is the first to tell the time: when
// in between it was told, nobody knows.
const longest = 10 * time.Second

// Time is what a node knows of the servers' clock, from the Date of their answers.
// It runs on by itself, whatever is done to this machine's clock. A nil Time knows
// nothing. Make it with NewTime. It is safe for concurrent use.
type Time struct {
	wall func() time.Time // this machine's clock

	mu     sync.Mutex // guards what follows
	known  bool
	server time.Time     // was the servers' time …
	at     time.Time     // … when this machine's monotonic clock was here
	set    chan struct{} // closed when the servers' clock turns out to be set
}

// NewTime returns a Time that knows nothing yet, on a machine whose clock is wall.
func NewTime(wall func() time.Time) *Time { return &Time{wall: wall, set: make(chan struct{})} }

// Hear takes what a server said: that it was date, cut to a second, at some moment
// between sent and received, which are of time.Now.
func (t *Time) Hear(date, sent, received time.Time) {
	least, most := date, date.Add(time.Second+received.Sub(sent)) // when it was received
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.known {
		if received.Sub(sent) > longest {
			return
		}
		t.known = true
		t.server, t.at = least.Add(most.Sub(least)/2), received
		return
	}
	thought := t.server.Add(received.Sub(t.at))
	now := thought
	switch {
	case thought.Before(least):
		now = least
	case thought.After(most):
		now = most
	default:
		return
	}
	t.server, t.at = now, received
	if now.Sub(thought).Abs() > Apart {
		close(t.set)
		t.set = make(chan struct{})
	}
}

// Set returns a channel that is closed when the servers' clock turns out to have
// been set since.
func (t *Time) Set() <-chan struct{} {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.set
}

// Ahead returns how far this machine's clock is ahead of the servers', less than 0
// if it is behind. It is right to about a second; ok is false as long as no server
// has answered.
func (t *Time) Ahead() (d time.Duration, ok bool) {
	if t == nil {
		return 0, false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.known {
		return 0, false
	}
	return t.wall().Round(0).Sub(t.server.Add(time.Since(t.at)).Round(0)), true
}

// Theirs returns what the servers' clock shows when this machine's shows ours. Where
// the two are not Apart that is the same, and the more precise; so it is for zero.
func (t *Time) Theirs(ours time.Time) time.Time {
	if d, ok := t.Ahead(); ok && d.Abs() > Apart && !ours.IsZero() {
		return ours.Add(-d)
	}
	return ours
}

// Ours is the opposite of Theirs.
func (t *Time) Ours(theirs time.Time) time.Time {
	if d, ok := t.Ahead(); ok && d.Abs() > Apart && !theirs.IsZero() {
		return theirs.Add(d)
	}
	return theirs
}
