package containerd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/skiff-sh/skiff/internal/agent"
)

func TestRunToExit(t *testing.T) {
	n := newNode(t)
	f := n.follow()
	c := n.run(n.container("echo out; echo err >&2; exit 7"))
	s := f.exit(c.ID)
	if s.ExitCode != 7 || s.OOMKilled || s.StartedAt.IsZero() || s.FinishedAt.Before(s.StartedAt) {
		t.Errorf("state %+v: expected exit code 7 and times in order", s)
	}
	if out, err := n.output(c, "stdout"), n.output(c, "stderr"); out != "out\n" || err != "err\n" {
		t.Errorf("logs %q and %q: expected out and err", out, err)
	}
	if err := n.Kill(t.Context(), c.ID, int(syscall.SIGTERM)); err != nil {
		t.Errorf("kill what has ended: %v", err)
	}
	if err := n.Create(t.Context(), c); !IsExist(err) {
		t.Errorf("create again: %v: expected IsExist", err)
	}
	if got, ok, _ := n.State(t.Context(), c.ID); !ok || got != s {
		t.Errorf("state %+v: expected %+v", got, s)
	}
	if err := n.Remove(t.Context(), c.ID); err != nil {
		t.Fatal(err)
	}
	if _, ok, _ := n.State(t.Context(), c.ID); ok {
		t.Error("a removed container is still known")
	}
	if err := n.Remove(t.Context(), c.ID); err != nil {
		t.Errorf("remove again: %v", err)
	}
}

func TestKillAndFailedCreate(t *testing.T) {
	n := newNode(t)
	f := n.follow()
	c := n.run(n.container("trap 'exit 3' TERM; echo ready; while true; do sleep 1000 & wait; done"))
	if err := n.Kill(t.Context(), c.ID, int(syscall.SIGKILL)); err != nil {
		t.Fatal(err)
	}
	if s := f.exit(c.ID); s.ExitCode != 137 {
		t.Errorf("exit code %d: expected 137", s.ExitCode)
	}
	bad := n.container("", func(c *agent.Container) { c.Args = []string{"/nosuch"} })
	err := n.Create(t.Context(), bad)
	const text = `failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: exec: "/nosuch": stat /nosuch: no such file or directory: unknown`
	if err == nil || err.Error() != text || !errors.As(err, new(agent.RunError)) {
		t.Errorf("create: %v\nexpected the RunError %s", err, text)
	}
	stranger := n.container("true", func(c *agent.Container) { c.User = agent.User{Spec: "nobody"} })
	if err := n.Create(t.Context(), stranger); err == nil || errors.As(err, new(agent.RunError)) {
		t.Errorf("create for a user who is not there: %v: expected an error of the description", err)
	}
	if err := n.Create(t.Context(), n.container("true", func(c *agent.Container) { c.ID = bad.ID })); err != nil {
		t.Errorf("create with the ID of a failed create: %v", err)
	}
}

func TestOOM(t *testing.T) {
	n := newNode(t)
	f := n.follow()
	c := n.run(n.container("x=$(cat /dev/zero | tr '\\0' x)", func(c *agent.Container) {
		c.Args = []string{"/bin/tail", "/dev/zero"}
		c.Resources = agent.Resources{MemoryLimit: 16 << 20, CPUShares: 100, CPUQuota: 100000, CPUPeriod: 100000, PidsLimit: 50, OOMScoreAdj: -997}
	}))
	if s := f.exit(c.ID); !s.OOMKilled || s.ExitCode != 137 {
		t.Errorf("state %+v: expected an OOM kill", s)
	}
}

func TestConfinement(t *testing.T) {
	n := newNode(t)
	f := n.follow()
	show := "grep -E '^(Seccomp|CapEff|CapBnd|NoNewPrivs|Uid|Gid|Groups):' /proc/self/status"
	for _, test := range []struct {
		name   string
		change func(*agent.Container)
		want   []string
	}{
		{"default", func(*agent.Container) {}, []string{"Seccomp:\t2", "CapEff:\t00000000a80425fb", "NoNewPrivs:\t0"}},
		{"unconfined", func(c *agent.Container) { c.Seccomp = "unconfined"; c.NoNewPrivs = true }, []string{"Seccomp:\t0", "NoNewPrivs:\t1"}},
		{"user", func(c *agent.Container) { c.User = agent.User{Spec: "web", Groups: []int64{7}} }, []string{"Uid:\t1001", "Gid:\t1002", "Groups:\t7 1003", "CapEff:\t0000000000000000"}},
		{"strict groups", func(c *agent.Container) { c.User = agent.User{Spec: "1001:5", Strict: true, Groups: []int64{7}} }, []string{"Uid:\t1001", "Gid:\t5\t", "Groups:\t7 \n"}},
		{"numbers", func(c *agent.Container) { c.User = agent.User{Spec: "4000"} }, []string{"Uid:\t4000", "Gid:\t0"}},
		{"drop all", func(c *agent.Container) { c.CapDrop = []string{"ALL"}; c.CapAdd = []string{"NET_BIND_SERVICE"} }, []string{"CapBnd:\t0000000000000400"}},
		{"privileged", func(c *agent.Container) { c.Privileged = true }, []string{"Seccomp:\t0"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := n.run(n.container(show, test.change))
			f.exit(c.ID)
			out := n.output(c, "stdout")
			for _, want := range test.want {
				if !strings.Contains(out, want) {
					t.Errorf("%s\nexpected %q", out, want)
				}
			}
		})
	}
}

func TestMany(t *testing.T) {
	n := newNode(t)
	f := n.follow()
	const pods = 24
	var all sync.WaitGroup
	containers := make([]agent.Container, pods)
	for i := range containers {
		containers[i] = n.container(fmt.Sprintf("echo %d; exit %d", i, i))
		if i%3 > 0 { // some share a Pod
			containers[i].Pod = containers[i-1].Pod
		}
		all.Go(func() {
			if err := errors.Join(n.Create(t.Context(), containers[i]), n.Start(t.Context(), containers[i].ID)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for i, c := range containers {
		if s := f.exit(c.ID); s.ExitCode != i || n.output(c, "stdout") != fmt.Sprintln(i) {
			t.Errorf("container %d: exit code %d, output %q", i, s.ExitCode, n.output(c, "stdout"))
		}
	}
	for _, c := range containers {
		all.Go(func() {
			if err := n.RemovePod(t.Context(), c.Pod.UID); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if left, _ := n.List(t.Context()); len(left) > 0 {
		t.Errorf("%d containers are left", len(left))
	}
}

// A shim that cannot write down how a container ended still knows it.
func TestEndThatCannotBeRecorded(t *testing.T) {
	n := newNode(t)
	events := n.follow()
	c := n.run(n.container("trap 'exit 3' TERM; echo up; while :; do sleep 0.1; done"))
	n.waitFor("the trap", func() bool { return n.output(c, "stdout") == "up\n" })
	// Where the next state would be written.
	if err := os.Mkdir(filepath.Join(n.bundle(c.Pod.UID, c.ID), StateFile+".new"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := n.Kill(t.Context(), c.ID, int(syscall.SIGTERM)); err != nil {
		t.Fatal(err)
	}
	if s := events.exit(c.ID); s.ExitCode != 3 || s.FinishedAt.IsZero() || s.StartedAt.IsZero() {
		t.Errorf("the end is told as %+v", s)
	}
}
