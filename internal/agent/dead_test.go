package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skiff-sh/skiff/internal/config"
)

func TestSuperfluous(t *testing.T) {
	now := time.Unix(10_000, 0)
	a, b := &worker{uid: "a"}, &worker{uid: "b"}
	dead := func(w *worker, name string, attempt, age int) deadRun {
		return deadRun{worker: w, name: name, attempt: attempt, made: now.Add(-time.Duration(age) * time.Second), over: w == b}
	}
	all := []deadRun{
		dead(a, "x", 2, 10), dead(a, "x", 0, 30), dead(a, "x", 1, 20), dead(a, "y", 0, 25), dead(b, "x", 0, 50), dead(b, "x", 1, 40),
	}
	tests := map[string]struct {
		keep  config.DeadContainers
		short bool
		want  string
	}{
		"by default":         {config.DeadContainers{PerContainer: 1, All: -1}, false, "ax0 ax1 bx0"},
		"more of each":       {config.DeadContainers{PerContainer: 2, All: -1}, false, "ax0"},
		"all":                {config.DeadContainers{PerContainer: -1, All: -1}, false, ""},
		"none":               {config.DeadContainers{All: -1}, false, "ax0 ax1 ax2 ay0 bx0 bx1"},
		"old enough":         {config.DeadContainers{PerContainer: 0, All: -1, MinimumAge: 25 * time.Second}, false, "ax0 ay0 bx0 bx1"},
		"evenly":             {config.DeadContainers{PerContainer: -1, All: 3}, false, "ax0 ax1 bx0"},
		"fewer than one":     {config.DeadContainers{PerContainer: -1, All: 2}, false, "ax0 ax1 bx0 bx1"},
		"room enough":        {config.DeadContainers{PerContainer: -1, All: 6}, false, ""},
		"when room is short": {config.DeadContainers{PerContainer: 1, All: -1}, true, "ax0 ax1 bx0 bx1"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, r := range superfluous(all, tt.keep, tt.short, now) {
				got = append(got, fmt.Sprint(r.worker.uid, r.name, r.attempt))
			}
			slices.Sort(got)
			if strings.Join(got, " ") != tt.want {
				t.Errorf("%q go, want %q", got, tt.want)
			}
		})
	}
}

// What is left of a container's attempts: of one that runs the last that has ended, of
// one that has ended that attempt alone.
func TestDeadContainersAreCollected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.start()
		defer func() { b.stop() }()
		pod := webPod()
		b.create(pod)
		dir := filepath.Join(b.host.LogDir, "default_web_"+string(pod.UID), "c")
		logs := func() string {
			entries, _ := os.ReadDir(dir)
			var names []string
			for _, e := range entries {
				names = append(names, e.Name())
			}
			return strings.Join(names, " ")
		}
		write := func(names ...string) {
			for _, name := range names {
				if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
		pass(time.Second)
		write("0.log", "0.log.20260101-000000")
		b.runtime.exit(t, "c", 1)
		pass(10 * time.Second)
		write("1.log")
		pass(2 * deadLook)
		if got := logs(); got != "0.log 0.log.20260101-000000 1.log" {
			t.Errorf("while the second runs there are %q", got)
		}
		b.runtime.exit(t, "c", 1)
		pass(30 * time.Second)
		write("2.log")
		b.runtime.exit(t, "c", 1) // and now it waits for long
		if got := logs(); got != "1.log 2.log" {
			t.Errorf("after the third's start there are %q", got)
		}
		b.agent.Kubelet.Dead.PerContainer = 1
		b.agent.buryDead(false)
		if got := logs(); got != "2.log" {
			t.Errorf("after the third's end there are %q", got)
		}
	})
}
