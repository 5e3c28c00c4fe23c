package containerd

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/skiff-sh/skiff/internal/agent"
	"github.com/skiff-sh/skiff/internal/config"
)

// victim is what TestCrash tells the process that it kills.
type victim struct {
	Host       config.Host
	Runc, Shim string
	Image      agent.Image
}

const victimVariable = "SKIFF_TEST_VICTIM"

// TestVictim is not a test: TestCrash runs it in a process of its own, where
// it makes and removes containers until it is killed.
func TestVictim(t *testing.T) {
	text := os.Getenv(victimVariable)
	if text == "" {
		t.Skip("only means something to TestCrash")
	}
	var v victim
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	c := Config{Host: v.Host, Address: os.Getenv(daemonVariable), Runc: v.Runc, Shim: v.Shim, Log: zap.NewNop()}
	r, err := Open(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	n := &node{Runtime: r, t: t, config: c, image: v.Image}
	fmt.Println("begin")
	for {
		kept := n.container("sleep 1000")
		gone := n.container("sleep 1000", func(c *agent.Container) { c.Pod = kept.Pod })
		n.run(gone)
		n.run(kept)
		if err := n.Remove(context.Background(), gone.ID); err != nil {
			t.Fatal(err)
		}
		if rand.IntN(2) == 0 {
			if err := n.RemovePod(context.Background(), kept.Pod.UID); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestCrash kills a process at random points of containers' lives. The next
// one must know exactly what runs, and keep it running.
func TestCrash(t *testing.T) {
	n := newNode(t)
	text, err := json.Marshal(victim{Host: n.config.Host, Runc: n.config.Runc, Shim: n.config.Shim, Image: n.image})
	if err != nil {
		t.Fatal(err)
	}
	started := map[string]int{} // process number by container
	for round := range 8 {
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
		n.killVictim(string(text), time.Duration(rand.IntN(400))*time.Millisecond)
		n.open()
		list, err := n.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		known := map[string]bool{}
		for _, s := range list {
			known[s.ID] = true
			if before, ok := started[s.ID]; ok && before != s.PID {
				t.Errorf("round %d: container %.12s is process %d: it was %d", round, s.ID, s.PID, before)
			}
			if s.Phase == agent.ContainerExited {
				continue
			}
			started[s.ID] = s.PID
			if err := syscall.Kill(s.PID, 0); err != nil {
				t.Errorf("round %d: container %.12s is %s, its process %d is not there", round, s.ID, s.Phase, s.PID)
			}
		}
		for id := range started {
			if !known[id] {
				t.Errorf("round %d: container %.12s is forgotten", round, id)
			}
		}
		n.expectNoStrangers(round, known)
	}
}

// expectNoStrangers looks for what is there of containers that are not known.
func (n *node) expectNoStrangers(round int, known map[string]bool) {
	n.t.Helper()
	snapshots := n.store.client.SnapshotService(n.Snapshotter())
	entries, err := os.ReadDir(n.runcDir())
	if err != nil {
		n.t.Fatal(err)
	}
	for _, e := range entries {
		if !known[e.Name()] {
			n.t.Errorf("round %d: runc knows container %.12s", round, e.Name())
		}
	}
	pods, err := os.ReadDir(n.podsDir())
	if err != nil {
		n.t.Fatal(err)
	}
	for _, pod := range pods {
		bundles, err := os.ReadDir(n.podDir(pod.Name()))
		if err != nil {
			n.t.Fatal(err)
		}
		for _, b := range bundles {
			if b.IsDir() && !known[b.Name()] {
				n.t.Errorf("round %d: a bundle of container %.12s is left", round, b.Name())
			}
		}
	}
	groups, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		n.t.Fatal(err)
	}
	for _, path := range groups {
		data, _ := os.ReadFile(path) // processes come and go
		for line := range strings.Lines(string(data)) {
			if group := strings.TrimSpace(line); strings.Contains(group, "/"+n.config.Host.CgroupRoot+"/") && !known[filepath.Base(group)] {
				n.t.Errorf("round %d: a process of container %.12s is left", round, filepath.Base(group))
				break
			}
		}
	}
	for id := range known {
		if _, err := snapshots.Stat(n.scope(n.t.Context()), id); err != nil {
			n.t.Errorf("round %d: container %.12s: %v", round, id, err)
		}
	}
}

func (n *node) killVictim(text string, after time.Duration) {
	n.t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestVictim$", "-test.timeout="+strconv.Itoa(60)+"s")
	cmd.Env = append(os.Environ(), victimVariable+"="+text)
	out, err := cmd.StdoutPipe()
	if err != nil {
		n.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	output := bufio.NewReader(out)
	line, err := output.ReadString('\n')
	if err != nil || line != "begin\n" {
		n.t.Errorf("the process that is to be killed says %q, %v", line, err)
	}
	<-time.After(after) // a random point is what this is about
	if err := cmd.Process.Kill(); err != nil {
		n.t.Fatal(err)
	}
	said, _ := io.ReadAll(output) // to its end, however that came
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		n.t.Errorf("the process that was to be killed: %v: %s", err, said)
	}
}
