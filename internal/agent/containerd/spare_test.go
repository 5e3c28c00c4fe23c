package containerd

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// spareShim waits until no spare is being made, and returns the number of its process.
func (n *node) spareShim() (pid int) {
	n.t.Helper()
	n.mu.Lock()
	made := n.sparing
	n.mu.Unlock()
	if made != nil {
		<-made
	}
	n.mu.Lock()
	p := n.spare
	n.mu.Unlock()
	if p == nil {
		return 0
	}
	pid, err := p.process(n.t.Context())
	if err != nil {
		n.t.Fatal(err)
	}
	return pid
}

// shimOf is the process of a Pod's shim.
func (n *node) shimOf(uid string) int {
	n.t.Helper()
	p, err := n.pod(uid, false)
	if err != nil {
		n.t.Fatal(err)
	}
	pid, err := p.process(n.t.Context())
	if err != nil {
		n.t.Fatal(err)
	}
	return pid
}

func (n *node) expectNoSpare(pid int) {
	n.t.Helper()
	if _, err := os.Stat(n.podDir(spareDir)); !errors.Is(err, fs.ErrNotExist) {
		n.t.Errorf("the spare's directory: %v", err)
	}
	if command, runs := processes(n.t)[strconv.Itoa(pid)]; runs && strings.Contains(command, n.config.Host.RunDir) {
		n.t.Errorf("the spare shim still runs: %s", command)
	}
}

func TestSpareShim(t *testing.T) {
	n := newNode(t)
	if pid := n.spareShim(); pid != 0 {
		t.Errorf("shim %d is there before the first Pod", pid)
	}
	n.run(n.container("sleep 1000"))
	spare := n.spareShim()
	if spare == 0 {
		t.Fatal("no shim waits for the next Pod")
	}
	second := n.container("echo second; exit 3")
	f := n.follow()
	n.run(second)
	if pid := n.shimOf(second.Pod.UID); pid != spare {
		t.Errorf("the second Pod has shim %d: expected the spare one, %d", pid, spare)
	}
	if next := n.spareShim(); next == 0 || next == spare {
		t.Errorf("shim %d waits: expected another one than %d", next, spare)
	}
	if s := f.exit(second.ID); s.ExitCode != 3 {
		t.Errorf("ended: %+v", s)
	}
	if out := n.output(second, "stdout"); out != "second\n" {
		t.Errorf("said %q", out)
	}

	t.Log("a dead one is nobody's")
	if err := syscall.Kill(n.spareShim(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	n.mu.Lock()
	dead := n.spare
	n.mu.Unlock()
	<-dead.gone
	n.run(n.container("sleep 1000"))

	t.Log("the end removes it")
	spare = n.spareShim()
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	n.expectNoSpare(spare)

	t.Log("and so does who comes after a crash")
	n.open()
	n.run(n.container("sleep 1000"))
	spare = n.spareShim()
	n.mu.Lock()
	n.spare = nil // as if nobody had had the time to remove it
	n.mu.Unlock()
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(spare, 0); err != nil {
		t.Fatalf("the spare shim has ended: %v", err)
	}
	n.open()
	n.expectNoSpare(spare)
	if list, err := n.List(context.Background()); err != nil || len(list) != 4 {
		t.Errorf("%d containers are left, %v", len(list), err)
	}
}
