package snapshot

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const kills = 25

// kill starts a skiff command, kills it after a while, and says whether it had
// ended before.
func (m *machine) kill(after time.Duration, args ...string) (ended bool) {
	m.t.Helper()
	cmd := exec.Command(m.skiff, append(args, "--data-dir", m.host.DataDir, "--node-name", m.name)...)
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	timer := time.AfterFunc(after, func() { _ = cmd.Process.Signal(unix.SIGKILL) })
	defer timer.Stop()
	return cmd.Wait() == nil
}

// killEvery kills a command at moments between its start and its end, and has
// each outcome looked at. The first time the command is left alone.
func (m *machine) killEvery(command func() []string, look func(ended bool)) {
	m.t.Helper()
	begin := time.Now()
	m.must(append(command(), "--data-dir", m.host.DataDir, "--node-name", m.name)...)
	whole := time.Since(begin)
	look(true)
	cut := 0
	for i := range kills {
		ended := m.kill(whole*time.Duration(i+1)/kills, command()...)
		if !ended {
			cut++
		}
		look(ended)
	}
	if cut == 0 {
		m.t.Error("none was killed before its end")
	}
}

// furnished returns a machine whose server has stopped, with some objects.
func furnished(t *testing.T) *machine {
	t.Helper()
	m := newMachine(t, "box", "192.0.2.1")
	client := m.start()
	for _, name := range []string{"a", "b", "c"} {
		c := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{"x": strings.Repeat(name, 100_000)}}
		if _, err := client.CoreV1().ConfigMaps("default").Create(t.Context(), c, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	m.end(unix.SIGTERM)
	return m
}

// Whenever a save is killed: what has a snapshot's name is whole, and nothing
// else outlasts the next save.
func TestKilledSaves(t *testing.T) {
	m := furnished(t)
	snapshots := func() []string {
		files, err := filepath.Glob(filepath.Join(m.host.ServerDir(), "snapshots", "*.tar.zst"))
		if err != nil {
			t.Fatal(err)
		}
		return files
	}
	seen := 0
	m.killEvery(func() []string { return []string{"snapshot", "save"} }, func(ended bool) {
		files := snapshots()
		if ended && len(files) != seen+1 || len(files) < seen {
			t.Fatalf("%d snapshots after %d, ended: %t", len(files), seen, ended)
		}
		for _, file := range files[seen:] {
			m.must("snapshot", "inspect", file)
		}
		seen = len(files)
	})
	m.must("snapshot", "save")
	all, err := filepath.Glob(filepath.Join(m.host.ServerDir(), "snapshots", ".*"))
	if err != nil || len(all) != 1 || filepath.Base(all[0]) != ".lock" {
		t.Errorf("left behind: %v, %v", all, err)
	}
}

// Whenever a restore is killed: there are the old data or the new.
func TestKilledRestores(t *testing.T) {
	m := furnished(t)
	out := m.must("snapshot", "save")
	file := strings.TrimSpace(strings.TrimPrefix(out, "saved "))
	objects := func() string { return m.must("export", "configmaps", "-n", "default") }
	saved := objects()
	client := m.start()
	if err := client.CoreV1().ConfigMaps("default").Delete(t.Context(), "b", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	m.end(unix.SIGTERM)
	changed := objects()
	if saved == changed {
		t.Fatal("nothing changed")
	}
	other := strings.TrimSpace(strings.TrimPrefix(m.must("snapshot", "save", "--name", "changed"), "saved "))
	is, want := changed, ""
	m.killEvery(func() []string {
		// Always the one that is not there.
		next := file
		if want = saved; is == saved {
			next, want = other, changed
		}
		return []string{"snapshot", "restore", next}
	}, func(ended bool) {
		got := objects()
		if got != want && (ended || got != is) {
			t.Fatalf("neither the old objects nor the new, ended: %t", ended)
		}
		is = got
	})
	// It starts from what is there.
	client = m.start()
	if _, err := client.CoreV1().ConfigMaps("default").Get(t.Context(), "a", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
}
