package pki

import (
	"context"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The kernel tells when the clock is set, here by a nanosecond.
func TestFollowSets(t *testing.T) {
	if kept() {
		t.Skip("something keeps this machine's clock right, and would be disturbed")
	}
	p := known(t, time.Time{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.FollowSets(ctx) }()
	jumped := Clock{Past: p}.Jumped()
	for told := false; !told; {
		nudge := &unix.Timex{Modes: unix.ADJ_SETOFFSET | unix.ADJ_NANO, Time: unix.Timeval{Usec: 1}}
		if _, err := unix.Adjtimex(nudge); err != nil {
			t.Skipf("the clock cannot be set here: %v", err)
		}
		select {
		case <-jumped:
			told = true
		case err := <-done:
			t.Fatal(err)
		case <-time.After(10 * time.Millisecond): // the watch may not have begun yet
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
