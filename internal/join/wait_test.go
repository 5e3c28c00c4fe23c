package join

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// A machine that waits for days says every ten minutes what for, and at once when
// it waits for something else.
func TestWaitingDoesNotFloodTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zap.WarnLevel)
		p := newPatience(zap.New(core))
		attempts := 0
		for start := time.Now(); time.Since(start) < time.Hour; attempts++ {
			// What differs in the text alone is the same problem.
			p.after(t.Context(), explain(fmt.Errorf("read from port %d: connection reset", attempts)))
		}
		if n := logs.Len(); n != 6 {
			t.Errorf("%d lines in an hour", n)
		}
		if attempts < 240 || attempts > 600 {
			t.Errorf("%d attempts in an hour", attempts)
		}
		p.after(t.Context(), denied("NodeNameTaken", "it is another's"))
		if n := logs.Len(); n != 7 {
			t.Errorf("nothing is said of another problem")
		}
	})
}

func TestWaitsAtLeast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPatience(zap.NewNop())
		start := time.Now()
		if !p.after(t.Context(), denied("NodeNameTaken", "it is another's")) || time.Since(start) != time.Minute {
			t.Errorf("waited %s", time.Since(start))
		}
	})
}

// One of several servers that may come is enough to wait for.
func TestWhatIsWaitedFor(t *testing.T) {
	lasting, passing := noDigest(), busy("https://a", "503")
	for name, c := range map[string]struct {
		err  error
		want bool
	}{
		"what a person has to do": {lasting, false},
		"what may pass":           {passing, true},
		"one of both":             {errors.Join(lasting, passing), true},
		"neither":                 {errors.Join(lasting, lasting), false},
		"within another":          {fmt.Errorf("join: %w", passing), true},
		"a full disk":             {errors.New("no space left on device"), false},
	} {
		if got := waits(c.err); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
