package agent

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skiff-sh/skiff/internal/agent/oom"
)

func TestSystemOOM(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.victims = func(ctx context.Context, found func(oom.Victim)) error {
			time.Sleep(time.Second) // until the node is known
			found(oom.Victim{Process: "stress", PID: 4711, Limit: "/"})
			found(oom.Victim{Process: "confined", PID: 12, Limit: "/kubepods/pod1"})
			found(oom.Victim{Limit: "/"})
			return errors.New("gone")
		}
		b.start()
		defer func() { b.stop() }()
		pass(2 * time.Second)
		b.wantEvent("SystemOOM System OOM encountered, victim process: stress, pid: 4711")
		b.wantEvent("SystemOOM System OOM encountered")
		if slices.ContainsFunc(b.events(), func(e string) bool { return strings.Contains(e, "confined") }) {
			t.Errorf("a limit's victim is told of as the machine's: %q", b.events())
		}
	})
}
