package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/skiff-sh/skiff/internal/store"
)

// model takes a short walk, another one each time.
func (s Suite) model(t *testing.T) { s.Walk(t, rand.Uint64(), 800) }

// Walk does so many random things with an engine and with the model, compares
// the two, and names the seed with which it does the same again.
func (s Suite) Walk(t *testing.T, seed uint64, steps int) {
	t.Logf("seed %d", seed)
	dir := t.TempDir()
	w := &walk{T: t, suite: s, random: rand.New(rand.NewPCG(seed, 1)), dir: dir, model: newSimple()}
	defer w.background.Wait()
	w.open()
	for w.at = range steps {
		w.step()
	}
	w.reopen()
}

// walk is an engine beside its model.
type walk struct {
	*testing.T
	suite  Suite
	random *rand.Rand
	at     int
	dir    string
	engine store.Engine
	model  *simple
	// snapshot is the last one taken, and then what the model was.
	snapshot   []byte
	then       *simple
	background sync.WaitGroup // a compaction
	mu         sync.Mutex     // guards all below
	published  []store.Revision
}

// open opens the engine and follows it.
func (w *walk) open() {
	w.Helper()
	w.engine = w.suite.open(w.T, w.dir)
	w.engine.Follow(func(changes []store.Change) {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, c := range changes {
			w.published = append(w.published, c.Revision)
		}
	})
}

// took returns what was published since it was asked last.
func (w *walk) took() (revisions []store.Revision) {
	w.mu.Lock()
	defer w.mu.Unlock()
	revisions, w.published = w.published, nil
	return revisions
}

func (w *walk) step() {
	switch n := w.random.IntN(400); {
	case n < 4:
		w.reopen()
	case n < 8:
		w.crash()
	case n < 12:
		w.takeSnapshot()
	case n < 14:
		w.restore()
	case n < 20:
		w.compact()
	case n < 24:
		w.check()
	default:
		w.commit()
	}
}

func (w *walk) fail(doing string, err error) {
	w.Helper()
	if err != nil {
		w.Fatalf("step %d: %s: %v", w.at, doing, err)
	}
}

func (w *walk) commit() {
	ops := w.model.randomOps(w.random)
	want, wantConflict := w.model.commit(ops)
	got, err := w.engine.Commit(context.Background(), ops)
	var conflict *store.ConflictError
	switch {
	case wantConflict != nil:
		if !errors.As(err, &conflict) || conflict.Key != *wantConflict {
			w.Fatalf("step %d: %v, want a conflict of %s\n%s", w.at, err, wantConflict, describe(ops))
		}
	case err != nil || !slices.Equal(got, want):
		w.Fatalf("step %d: %v, %v, want %v\n%s", w.at, got, err, want, describe(ops))
	}
	want = slices.DeleteFunc(want, func(r store.Revision) bool { return r == 0 })
	if published := w.took(); !slices.Equal(published, want) {
		w.Fatalf("step %d: %v was published, want %v", w.at, published, want)
	}
	if barrier, err := w.engine.Barrier(context.Background()); err != nil || barrier != w.model.revision {
		w.Fatalf("step %d: barrier %d, %v, want %d", w.at, barrier, err, w.model.revision)
	}
}

func describe(ops []store.Op) string {
	var text strings.Builder
	for _, op := range ops {
		fmt.Fprintf(&text, "%s: action %d, lazy %t, %d expected, %d bytes\n", op.Key, op.Action, op.Lazy, op.Expect, len(op.Value))
	}
	return text.String()
}

// compare reads all there is.
func (w *walk) compare() {
	w.Helper()
	var got strings.Builder
	for _, bucket := range modelBuckets {
		got.WriteString(contents(w.T, w.engine, bucket))
	}
	if got.String() != w.model.String() {
		w.Fatalf("step %d: the store holds\n%swant\n%s", w.at, got.String(), w.model)
	}
}

// reopen stops cleanly, which loses nothing, not even a revision.
func (w *walk) reopen() {
	w.fail("close", w.engine.Close())
	w.background.Wait()
	w.open()
	w.model.flush()
	w.compare()
	if w.engine.Revision() != w.model.revision {
		w.Fatalf("step %d: revision %d after a clean stop, want %d", w.at, w.engine.Revision(), w.model.revision)
	}
}

// crash goes on from what is on disk, as when the process is killed.
func (w *walk) crash() {
	if w.suite.File == "" {
		return
	}
	left := w.TempDir()
	w.fail("copy what is on disk", copyFiles(w.dir, left))
	w.continueIn(left, w.model.revision)
}

// copyFiles copies the files of a directory but for locks. One that goes away
// meanwhile was of no importance.
func copyFiles(from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if strings.HasSuffix(entry.Name(), ".lock") {
			continue
		}
		data, err := os.ReadFile(filepath.Join(from, entry.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(to, entry.Name()), data, 0o600)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// continueIn goes on in another directory, whose store may hold what the model
// says of an unclean stop.
func (w *walk) continueIn(dir string, handedOut store.Revision) {
	w.Helper()
	w.engine.Close()
	w.background.Wait()
	w.dir = dir
	w.open()
	found := map[string]record{}
	for _, bucket := range modelBuckets {
		w.fail("scan", w.engine.Scan(context.Background(), bucket, func(r store.Record) error {
			found[r.Key.Name] = record{r.Revision, string(r.Value)}
			return nil
		}))
	}
	w.fail("after an unclean stop", w.model.adopt(found, w.engine.Revision(), handedOut))
}

func (w *walk) takeSnapshot() {
	var copied bytes.Buffer
	w.fail("snapshot", w.engine.Snapshot(context.Background(), &copied))
	w.model.flush()
	w.snapshot, w.then = copied.Bytes(), w.model.clone()
}

// restore goes back to the last snapshot, but not in revisions.
func (w *walk) restore() {
	if w.suite.Restore == nil || w.snapshot == nil {
		return
	}
	w.engine.Close()
	w.background.Wait()
	w.fail("remove what is replaced", os.Remove(filepath.Join(w.dir, w.suite.File)))
	w.fail("restore", w.suite.Restore(w.dir, bytes.NewReader(w.snapshot)))
	handedOut := w.model.revision
	w.model = w.then.clone()
	w.continueIn(w.dir, handedOut)
}

// compact does so beside the steps that follow. One that is cut off by the end of
// the engine has failed, and nothing else is allowed to.
func (w *walk) compact() {
	engine := w.engine
	w.background.Go(func() {
		if err := engine.Compact(context.Background()); err != nil && !errors.Is(err, store.ErrClosed) {
			w.Errorf("compact: %v", err)
		}
	})
}

func (w *walk) check() {
	w.compare()
	w.fail("check", w.engine.Check(context.Background(), func(d store.Damage) { w.Errorf("step %d: damage: %s", w.at, d) }))
	if stats := w.engine.Stats(); stats.FreeBytes > stats.FileBytes || stats.LazyBytes < 0 {
		w.Fatalf("step %d: %+v", w.at, stats)
	}
}
