package snapshot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// writers create ConfigMaps without end.
type writers struct {
	group   errgroup.Group
	stop    context.CancelFunc
	written [4]atomic.Int64 // acknowledged, by writer
}

func startWriters(t *testing.T, client *kubernetes.Clientset) *writers {
	ctx, stop := context.WithCancel(t.Context())
	w := &writers{stop: stop}
	for i := range w.written {
		w.group.Go(func() error {
			for n := int64(1); ctx.Err() == nil; n++ {
				_, err := client.CoreV1().ConfigMaps("default").Create(ctx, &corev1.ConfigMap{
					ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("w%d-%d", i, n)},
					Data:       map[string]string{"n": strconv.FormatInt(n, 10)},
				}, metav1.CreateOptions{})
				if ctx.Err() != nil {
					return nil
				}
				if err != nil {
					return err
				}
				w.written[i].Store(n)
			}
			return nil
		})
	}
	t.Cleanup(func() { stop(); _ = w.group.Wait() })
	return w
}

// acknowledged returns how far each writer is.
func (w *writers) acknowledged() (counts [4]int64, total int64) {
	for i := range w.written {
		counts[i] = w.written[i].Load()
		total += counts[i]
	}
	return counts, total
}

// One file brings a cluster that is gone back on another machine.
func TestOneFileBringsTheClusterBack(t *testing.T) {
	old := newMachine(t, "old", "192.0.2.1")
	client := old.start()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "old"}}
	if _, err := client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	token, err := client.CoreV1().ServiceAccounts("default").CreateToken(ctx, "default", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	admin, err := clientcmd.BuildConfigFromFlags("", old.kubeconfig())
	if err != nil {
		t.Fatal(err)
	}

	// Online, while others write.
	w := startWriters(t, client)
	for _, total := w.acknowledged(); total < 100; _, total = w.acknowledged() {
		if ctx.Err() != nil {
			t.Fatal("the writers do not write")
		}
	}
	before, started := w.acknowledged()
	passphrase := filepath.Join(t.TempDir(), "passphrase")
	if err := os.WriteFile(passphrase, []byte("correct horse\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out := old.must("snapshot", "save", "--full", "--passphrase-file", passphrase)
	_, ended := w.acknowledged()
	w.stop()
	if err := w.group.Wait(); err != nil {
		t.Fatal(err)
	}
	if ended == started {
		t.Error("nobody could write while the snapshot was saved")
	}
	saved := strings.TrimSpace(strings.TrimPrefix(out, "saved "))
	list, err := client.CoreV1().ConfigMaps("").List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}

	// The machine is gone but for the file.
	file := filepath.Join(t.TempDir(), filepath.Base(saved))
	if err := os.Rename(saved, file); err != nil {
		t.Fatal(err)
	}
	old.end(unix.SIGKILL)
	if err := os.RemoveAll(old.host.DataDir); err != nil {
		t.Fatal(err)
	}

	other := newMachine(t, "new", "192.0.2.2")
	out = other.must("snapshot", "restore", file, "--passphrase-file", passphrase)
	if !strings.Contains(out, "skiff kubectl delete node old") || strings.Contains(out, "other keys") {
		t.Errorf("restore says:\n%s", out)
	}
	other.start()
	client = other.client(admin) // the old one's keys, under the new address
	checkObjects(ctx, t, client, before, list.ResourceVersion)
	checkWatch(ctx, t, client, list.ResourceVersion)
	if err := client.CoreV1().Nodes().Delete(ctx, "old", metav1.DeleteOptions{}); err != nil {
		t.Errorf("the old node: %v", err)
	}
	bearer := other.client(&rest.Config{BearerToken: token.Status.Token, TLSClientConfig: rest.TLSClientConfig{CAData: admin.CAData}})
	if _, err := bearer.CoreV1().Pods("default").List(ctx, metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("a service account's token is not known any more: %v", err)
	}

	// A server that runs is not touched.
	_, err = other.run(nil, "snapshot", "restore", file, "--passphrase-file", passphrase)
	if want := fmt.Sprintf("process %d holds the store", other.server.Process.Pid); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
}

// checkObjects looks for everything that was acknowledged before the snapshot,
// under revisions above the old ones.
func checkObjects(ctx context.Context, t *testing.T, client *kubernetes.Clientset, acknowledged [4]int64, oldRevision string) {
	t.Helper()
	list, err := client.CoreV1().ConfigMaps("default").List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]string{}
	for _, c := range list.Items {
		there[c.Name] = c.Data["n"]
	}
	for i, last := range acknowledged {
		for n := int64(1); n <= last; n++ {
			if there[fmt.Sprintf("w%d-%d", i, n)] != strconv.FormatInt(n, 10) {
				t.Fatalf("what was acknowledged is gone: w%d-%d of %d", i, n, last)
			}
		}
	}
	was, _ := strconv.ParseInt(oldRevision, 10, 64)
	if is, _ := strconv.ParseInt(list.ResourceVersion, 10, 64); is <= was+1<<31 {
		t.Errorf("revisions went on from %d to %d", was, is)
	}
}

// checkWatch goes on with a watch of the old machine, which has to be refused.
func checkWatch(ctx context.Context, t *testing.T, client *kubernetes.Clientset, revision string) {
	t.Helper()
	w, err := client.CoreV1().ConfigMaps("default").Watch(ctx, metav1.ListOptions{ResourceVersion: revision})
	if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	e := <-w.ResultChan()
	if e.Type != watch.Error || !apierrors.IsResourceExpired(apierrors.FromObject(e.Object)) && !apierrors.IsGone(apierrors.FromObject(e.Object)) {
		t.Errorf("a watch from before got %v %v", e.Type, e.Object)
	}
}

// A restore over data that is there keeps it, and the keys, which a snapshot
// that is not full does not bring.
func TestRestoreOverWhatIsThere(t *testing.T) {
	m := newMachine(t, "box", "192.0.2.1")
	client := m.start()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	create := func(name string) {
		t.Helper()
		c := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if _, err := client.CoreV1().ConfigMaps("default").Create(ctx, c, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	create("before")
	m.must("snapshot", "save", "--name", "mine")
	create("after")
	m.end(unix.SIGTERM)

	var files []struct{ Name string }
	if err := json.Unmarshal([]byte(m.must("snapshot", "ls", "-o", "json")), &files); err != nil || len(files) != 1 {
		t.Fatalf("ls: %v, %v", files, err)
	}
	name, _, _ := strings.Cut(files[0].Name, ".")
	if out := m.must("snapshot", "inspect", name); !strings.Contains(out, "everything is as it was written") {
		t.Errorf("inspect says:\n%s", out)
	}
	out := m.must("snapshot", "restore", name)
	aside, err := filepath.Glob(m.host.ServerDir() + "-replaced-*")
	if err != nil || len(aside) != 1 || !strings.Contains(out, aside[0]) {
		t.Errorf("aside: %v, %v; restore says:\n%s", aside, err, out)
	}
	// The same kubeconfig, the same client.
	client = m.start()
	if _, err := client.CoreV1().ConfigMaps("default").Get(ctx, "before", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
	if _, err := client.CoreV1().ConfigMaps("default").Get(ctx, "after", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("what came after the snapshot: %v", err)
	}
	if m.must("snapshot", "ls"); len(aside) == 1 {
		if _, err := os.Stat(filepath.Join(aside[0], "store.db")); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(filepath.Join(aside[0], "snapshots")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the snapshots are there twice: %v", err)
		}
	}
	m.must("snapshot", "rm", name)
}
