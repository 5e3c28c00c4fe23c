package server

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/snapshot"
	"github.com/skiff-sh/skiff/internal/store"
	"github.com/skiff-sh/skiff/internal/store/bolt"
)

// emptyStore returns the bytes of a store.
func emptyStore(t *testing.T) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "store.db")
	engine, err := bolt.Open(path, bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var copied bytes.Buffer
	if err := errors.Join(engine.Snapshot(t.Context(), &copied), engine.Close()); err != nil {
		t.Fatal(err)
	}
	return copied.Bytes()
}

// Snapshots are taken when the schedule says, where something was written; a
// failure is told, and does not end the schedule; the newest ones stay.
func TestSnapshotSchedule(t *testing.T) {
	data, dir := emptyStore(t), t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var broken atomic.Pointer[error]
		var told []error
		var revision atomic.Int64
		s := &snapshotSchedule{
			settings: config.Snapshots{Name: "etcd-snapshot", Schedule: "0 */12 * * *", Retention: 2, Dir: dir},
			source: snapshot.Source{Node: "box", Server: t.TempDir(), Copy: func(_ context.Context, w io.Writer) error {
				_, err := w.Write(data)
				return errors.Join(err, *broken.Load())
			}},
			revision: func() store.Revision { return store.Revision(revision.Load()) },
			failed:   func(_ context.Context, err error) { told = append(told, err) },
			log:      zap.NewNop(),
		}
		revision.Store(1)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.run(ctx) }()
		defer func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}()
		place := snapshot.NewDirectory(dir)
		count := func() int {
			files, err := place.List(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return len(files)
		}
		for i, step := range []struct {
			writes int64
			broken error
			want   int // snapshots
			told   int // failures
		}{
			{writes: 0, want: 1}, // the first one of this process
			{writes: 0, want: 1}, // nothing new
			{writes: 1, want: 2},
			{writes: 1, broken: errors.New("the disk is full"), want: 2, told: 1},
			{writes: 0, want: 2, told: 1}, // what failed is made up for, and the oldest goes
			{writes: 1, want: 2, told: 1},
		} {
			revision.Add(step.writes)
			broken.Store(&step.broken)
			time.Sleep(12 * time.Hour) // of the bubble's time
			synctest.Wait()
			if count() != step.want || len(told) != step.told {
				t.Fatalf("step %d: %d snapshots, told %v", i, count(), told)
			}
		}
	})
}

// A server takes its snapshots itself, and one that fails is an event of the
// node.
func TestServerTakesSnapshots(t *testing.T) {
	s := settings(t, t.TempDir())
	s.Snapshots.Schedule = "@every 1s"
	s.Snapshots.Dir = filepath.Join(t.TempDir(), "snapshots")
	r := start(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	_, err := r.client.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: s.NodeName}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	place := snapshot.NewDirectory(s.Snapshots.Dir)
	for {
		files, err := place.List(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if len(files) > 0 && files[0].Manifest.Objects["nodes"] == 1 {
			break
		}
		if len(files) > 0 { // taken before the node was there
			if err := place.Remove(ctx, files[0].Name); err != nil {
				t.Fatal(err)
			}
		}
		select {
		case <-ctx.Done():
			t.Fatal("no snapshot was taken")
		case <-time.After(10 * time.Millisecond):
		}
	}
	w, err := r.client.CoreV1().Events("default").Watch(ctx, metav1.ListOptions{FieldSelector: "reason=SnapshotFailed"})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	if err := os.Rename(s.Snapshots.Dir, s.Snapshots.Dir+"-away"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.Snapshots.Dir, nil, 0o600); err != nil { // in the way
		t.Fatal(err)
	}
	if _, err := r.client.CoreV1().ConfigMaps("default").Create(ctx,
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "new"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for e := range w.ResultChan() {
		event := e.Object.(*corev1.Event)
		if event.Type != corev1.EventTypeWarning || event.InvolvedObject.Name != s.NodeName {
			t.Errorf("event: %+v", event)
		}
		return
	}
	t.Error("nobody was told that the snapshot failed")
}
