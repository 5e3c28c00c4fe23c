package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestSecondServerNamesTheFirst(t *testing.T) {
	c := shared(t)
	begin := c.process.Pid
	out, err := c.run(nil, skiff, "server", "--data-dir", c.host.DataDir)
	if err == nil {
		t.Fatal("two servers on one data directory")
	}
	c.mustContain(out, strconv.Itoa(begin), c.host.DataDir)
	if strings.Count(strings.TrimSpace(out), "\n") > 0 {
		t.Errorf("more than a line: %s", out)
	}
	c.finish(once("still", "echo works"))
}

// A full disk is told, breaks nothing, and is over when there is room.
func TestFullFileSystem(t *testing.T) {
	t.Parallel()
	m := ownMachine(t, "--kubelet-arg=eviction-pressure-transition-period=5s")
	smallDisk(t, m, m.host.DataDir, 400)
	c := m.open(t)
	web := pod("web", "")
	web.Spec.PriorityClassName = "system-node-critical" // or it would be evicted
	running := c.startPod(web)
	c.kubectl("version") // unpacks it while there is room
	made := c.fill(t)

	t.Log("what is there is served, and what cannot be written is refused")
	if len(made) == 0 {
		t.Fatal("nothing was written before the disk was full")
	}
	var err error
	for i := 0; err == nil && i < 50; i++ { // some may still fit into the store's file as it is
		name := fmt.Sprintf("more-%d", i)
		_, err = c.client.CoreV1().ConfigMaps(c.namespace).Create(c.ctx, bulk(name), metav1.CreateOptions{})
		if err == nil {
			made = append(made, name)
		}
	}
	if err == nil {
		t.Fatal("written to a full disk")
	}
	t.Logf("the error: %v", err)
	c.mustContain(err.Error(), "the disk under the data directory is full", "free some space")
	c.checkMade(made)
	if p := c.awaitPod("web", podReady); mainStatus(p).ContainerID != mainStatus(running).ContainerID {
		t.Error("the running Pod was touched")
	}

	t.Log("with a little room the node says that it is under pressure")
	if err := os.Truncate(c.filler(), fillerSize(t, c.filler())-(8<<20)); err != nil {
		t.Fatal(err)
	}
	c.kubectl("wait", "--for=condition=DiskPressure", "node", "--all", "--timeout=60s")

	t.Log("with room it goes on")
	if err := os.Remove(c.filler()); err != nil {
		t.Fatal(err)
	}
	c.retry(func() error {
		_, err := c.client.CoreV1().ConfigMaps(c.namespace).Create(c.ctx, bulk("after"), metav1.CreateOptions{})
		return err
	})
	c.kubectl("wait", "--for=condition=DiskPressure=false", "node", "--all", "--timeout=60s")
	if _, log := c.finish(once("after", "echo works")); log != "works\n" {
		t.Errorf("log %q", log)
	}
	c.checkMade(made)

	t.Log("and nothing is lost by a crash")
	if _, err := m.signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := m.start(); err != nil {
		t.Fatal(err)
	}
	c.checkMade(append(made, "after"))
	if p := c.awaitPod("web", podReady); mainStatus(p).ContainerID != mainStatus(running).ContainerID {
		t.Error("the running Pod was touched")
	}
}

func (c *cluster) filler() string { return filepath.Join(c.host.DataDir, "filler") }

func fillerSize(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// bulk is a ConfigMap that needs room.
func bulk(name string) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{"data": strings.Repeat(name, 500_000/len(name))},
	}
}

// fill takes the disk's room but a little and writes ConfigMaps until one is
// refused. It returns the names of those that were acknowledged.
func (c *cluster) fill(t *testing.T) []string {
	t.Helper()
	var free unix.Statfs_t
	if err := unix.Statfs(c.host.DataDir, &free); err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(c.filler())
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := unix.Fallocate(int(file.Fd()), 0, 0, int64(free.Bavail)*free.Bsize-(48<<20)); err != nil {
		t.Fatal(err)
	}
	var made []string
	for i := range 400 {
		name := fmt.Sprintf("bulk-%d", i)
		if _, err := c.client.CoreV1().ConfigMaps(c.namespace).Create(c.ctx, bulk(name), metav1.CreateOptions{}); err != nil {
			t.Logf("refused after %d: %v", i, err)
			break
		}
		made = append(made, name)
	}
	// Let nothing smaller fit either.
	rest, err := os.OpenFile(c.filler(), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer rest.Close()
	block := make([]byte, 4096)
	for err == nil {
		_, err = rest.Write(block)
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	return made
}

// checkMade fails unless all that was acknowledged is there, whole.
func (c *cluster) checkMade(names []string) {
	c.t.Helper()
	for _, name := range names {
		got, err := c.client.CoreV1().ConfigMaps(c.namespace).Get(context.Background(), name, metav1.GetOptions{})
		if err != nil {
			c.t.Errorf("%s: %v", name, err)
			continue
		}
		if got.Data["data"] != bulk(name).Data["data"] {
			c.t.Errorf("%s has %d bytes, not what was written", name, len(got.Data["data"]))
		}
	}
}
