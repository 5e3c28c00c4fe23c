package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/skiff-sh/skiff/internal/store"
)

func put(name string, value []byte) store.Op {
	return store.Op{Key: store.Key{Bucket: "things", Name: name}, Expect: store.Any, Value: value}
}

func lazily(op store.Op) store.Op {
	op.Lazy = true
	return op
}

func commit(e *Engine, ops ...store.Op) error {
	_, err := e.Commit(context.Background(), ops)
	return err
}

func mustOpen(t testing.TB, path string, options Options) *Engine {
	t.Helper()
	e, err := Open(path, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

func names(t *testing.T, e *Engine) (names []string) {
	t.Helper()
	err := e.Scan(context.Background(), "things", func(r store.Record) error {
		names = append(names, r.Key.Name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// TestFullDisk fills a small file system under the store.
func TestFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting a small file system takes root")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	e := mustOpen(t, filepath.Join(dir, testFile), Options{})
	var published []string
	e.Follow(func(changes []store.Change) {
		for _, c := range changes {
			published = append(published, c.Key.Name)
		}
	})
	value := bytes.Repeat([]byte("x"), 50_000)
	if err := commit(e, lazily(put("beat", []byte("0")))); err != nil {
		t.Fatal(err)
	}
	var stored []string
	var full error
	for i := range 100 {
		name := fmt.Sprintf("n%03d", i)
		if full = commit(e, put(name, value)); full != nil {
			break
		}
		stored = append(stored, name)
	}
	if !errors.Is(full, store.ErrFull) || len(stored) < 5 {
		t.Fatalf("after %d values: %v", len(stored), full)
	}
	t.Logf("%d values fit; then: %v", len(stored), full)
	if err := commit(e, lazily(put("beat", []byte("1")))); err != nil {
		t.Errorf("a heartbeat on a full disk: %v", err)
	}
	if got := names(t, e); fmt.Sprint(got) != fmt.Sprint(append([]string{"beat"}, stored...)) {
		t.Errorf("on a full disk the store holds %v", got)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, "size=8m"); err != nil {
		t.Fatal(err)
	}
	if err := commit(e, put("with room", value)); err != nil {
		t.Fatalf("with room again: %v", err)
	}
	stored = append(stored, "with room")
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprint(append([]string{"beat"}, stored...))
	if got := names(t, mustOpen(t, filepath.Join(dir, testFile), Options{})); fmt.Sprint(got) != want {
		t.Errorf("opened again the store holds %v, want %s", got, want)
	}
	if published[0] != "beat" || published[len(published)-1] != "with room" || len(published) != len(stored)+2 {
		t.Errorf("published: %v", published)
	}
}

// TestDamage changes one thing of a file behind the engine's back.
func TestDamage(t *testing.T) {
	for _, test := range []struct {
		name   string
		damage func(b *bbolt.Bucket) error
		want   string
	}{
		{"a value", func(b *bbolt.Bucket) error {
			return b.Put([]byte("a"), append(bytes.Clone(b.Get([]byte("a"))), 'x'))
		}, "things/a: its checksum is"},
		{"a record swapped for another", func(b *bbolt.Bucket) error { return b.Put([]byte("a"), bytes.Clone(b.Get([]byte("b")))) },
			"things/a: its checksum is"},
		{"a record cut", func(b *bbolt.Bucket) error { return b.Put([]byte("a"), []byte{1, 2}) }, "fewer than a header"},
		{"a newer record format", func(b *bbolt.Bucket) error {
			record := bytes.Clone(b.Get([]byte("a")))
			record[0] = 9
			return b.Put([]byte("a"), record)
		}, "format 9"},
		{"a record lost", func(b *bbolt.Bucket) error { return b.Delete([]byte("c")) }, "bucket things holds 2 records or others than the 3"},
		{"a record replaced by its past", func(b *bbolt.Bucket) error {
			key := store.Key{Bucket: "things", Name: "a"}
			return b.Put([]byte("a"), encodeRecord(key, 0, 1, []byte("old")))
		}, "bucket things holds 3 records or others than the 3"},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), testFile)
			e := mustOpen(t, path, Options{})
			for _, name := range []string{"a", "b", "c"} {
				if err := commit(e, put(name, []byte("value"))); err != nil {
					t.Fatal(err)
				}
			}
			e.Close()
			behind(t, path, test.damage)
			e = mustOpen(t, path, Options{})
			err := e.Scan(context.Background(), "things", func(store.Record) error { return nil })
			if !errors.Is(err, store.ErrDamaged) || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "restore the last snapshot") {
				t.Errorf("got %v, want …%s…", err, test.want)
			}
		})
	}
}

func behind(t *testing.T, path string, change func(*bbolt.Bucket) error) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Update(func(tx *bbolt.Tx) error { return change(tx.Bucket([]byte(bucketPrefix + "things"))) }); err != nil {
		t.Fatal(err)
	}
}

// TestDamagedPages overwrites pages at random: whatever happens, it is an error
// and no panic.
func TestDamagedPages(t *testing.T) {
	path := filepath.Join(t.TempDir(), testFile)
	e := mustOpen(t, path, Options{})
	for i := range 50 {
		if err := commit(e, put(fmt.Sprint(i), make([]byte, 3000))); err != nil {
			t.Fatal(err)
		}
	}
	e.Close()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	noticed := 0
	for page := 2; page < len(whole)/pageSize; page++ {
		data := bytes.Clone(whole)
		copy(data[page*pageSize:], bytes.Repeat([]byte{0xa5}, pageSize))
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		e, err := Open(path, Options{})
		if err == nil {
			err = e.Scan(context.Background(), "things", func(store.Record) error { return nil })
			e.Close()
		}
		if err != nil {
			noticed++
			if !strings.Contains(err.Error(), "restore the last snapshot") {
				t.Errorf("page %d: %v", page, err)
			}
		}
	}
	if noticed < 50 {
		t.Errorf("only %d of the damaged pages were noticed", noticed)
	}
}

func TestLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), testFile)
	mustOpen(t, path, Options{})
	_, err := Open(path, Options{})
	want := fmt.Sprintf("process %d holds the store %s; stop it, or choose another data directory", os.Getpid(), path)
	var locked *LockedError
	if !errors.As(err, &locked) || locked.PID != os.Getpid() || err.Error() != want {
		t.Fatalf("got %v, want %s", err, want)
	}
}
