package containerd

import (
	"os"
	"os/exec"
	"sync"
	"testing"
)

func TestEnds(t *testing.T) {
	e, err := newEnds()
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(e.run)
	defer running.Wait()
	defer e.close()

	told := make(chan int, 200)
	var all []*exec.Cmd
	for i := range 100 {
		cmd := exec.Command("sleep", "1000")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		all = append(all, cmd)
		if err := e.watch(cmd.Process.Pid, func() { told <- i }); err != nil {
			t.Fatal(err)
		}
	}
	for i := len(all) - 1; i >= 50; i-- {
		if err := all[i].Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if got := <-told; got != i {
			t.Fatalf("told of %d's end, not of %d's", got, i)
		}
		_ = all[i].Wait() // it was killed
	}
	if err := e.watch(all[99].Process.Pid, func() { t.Error("a process ended twice") }); err == nil {
		t.Error("a process that is gone is watched")
	}
	for _, cmd := range all[:50] {
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[int]bool{}
	for range 50 {
		seen[<-told] = true
	}
	for i, cmd := range all[:50] {
		if !seen[i] {
			t.Errorf("not told of %d's end", i)
		}
		_ = cmd.Wait()
	}
	if n := len(e.waiting); n > 0 {
		t.Errorf("%d are still waited for", n)
	}
}

// What was watched when it is closed is never told of, and leaves no descriptor.
func TestEndsClosed(t *testing.T) {
	before := descriptors(t)
	e, err := newEnds()
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(e.run)
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := e.watch(cmd.Process.Pid, func() { t.Error("told after the end") }); err != nil {
		t.Fatal(err)
	}
	if err := e.close(); err != nil {
		t.Fatal(err)
	}
	running.Wait()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if err := e.watch(os.Getpid(), func() {}); err == nil {
		t.Error("watched after the end")
	}
	if after := descriptors(t); after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

// Closing does not wait for a callback that waits for it.
func TestEndsClosedMeanwhile(t *testing.T) {
	for range 50 {
		e, err := newEnds()
		if err != nil {
			t.Fatal(err)
		}
		var running sync.WaitGroup
		running.Go(e.run)
		for range 4 {
			cmd := exec.Command("true")
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			_ = e.watch(cmd.Process.Pid, func() {}) // it may have ended
			running.Go(func() { _ = cmd.Wait() })
		}
		if err := e.close(); err != nil {
			t.Fatal(err)
		}
		running.Wait()
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
