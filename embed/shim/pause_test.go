package main

import (
	"debug/elf"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// The test's own program is what process 1 of a shared process namespace runs.
func TestMain(m *testing.M) {
	switch os.Args[0] {
	case pauseSetUp:
		end(becomePause())
	case pauseName:
		end(pauseUntilAlone())
	}
	os.Exit(m.Run())
}

// testReaper is the only one: two would take each other's children.
var testReaper = sync.OnceValue(func() *reaper {
	r := newReaper()
	go r.run()
	return r
})

func TestPause(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("makes namespaces: needs root")
	}
	if program, err := elf.Open("/proc/self/exe"); err == nil && slices.ContainsFunc(program.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		t.Skip("runs this program where there are no libraries: needs CGO_ENABLED=0")
	}
	t.Chdir(t.TempDir())
	r := testReaper()
	p := pause{reaper: r}
	status := func() string {
		t.Helper()
		if err := p.ensure(); err != nil {
			t.Fatal(err)
		}
		target, err := os.Readlink(PIDNamespace)
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(strings.TrimSuffix(target, "ns/pid") + "status")
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if err := os.Symlink("nowhere", PIDNamespace+".new"); err != nil { // as a crash leaves one
		t.Fatal(err)
	}
	first := status()
	for _, want := range []string{"Name:\tpause\n", "Uid:\t65535\t65535\t65535\t65535\n", "CapPrm:\t0000000000000000\n", "NoNewPrivs:\t1\n"} {
		if !strings.Contains(first, want) {
			t.Errorf("no %q in its status:\n%s", want, first)
		}
	}
	pid := func(s string) string {
		_, rest, _ := strings.Cut(s, "\nPid:\t")
		number, _, _ := strings.Cut(rest, "\n")
		return number
	}
	if second := status(); pid(second) != pid(first) {
		t.Errorf("a second process 1: %s after %s", pid(second), pid(first))
	}
	// Another one takes the place of one that was killed.
	number, err := strconv.Atoi(pid(first))
	if err == nil {
		err = r.signal(number, syscall.SIGKILL)
	}
	if err != nil {
		t.Fatal(err)
	}
	p.ended = awaited(p.ended)
	if third := status(); pid(third) == pid(first) {
		t.Errorf("process %s is still taken for process 1", pid(first))
	}
	// It goes with the shim.
	p.alive.Close()
	<-p.ended
}

// awaited waits for the end that a channel tells of, and tells it again.
func awaited[T any](c <-chan T) <-chan T {
	again := make(chan T, 1)
	again <- <-c
	return again
}
