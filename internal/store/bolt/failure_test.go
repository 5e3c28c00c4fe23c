package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/skiff-sh/skiff/internal/store"
	"github.com/skiff-sh/skiff/internal/store/bolt/format"
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
			if c.Key.Name != "beat" {
				published = append(published, c.Key.Name)
			}
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
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 10 {
				if err := commit(e, put("too much", value)); !errors.Is(err, store.ErrFull) {
					t.Errorf("on a full disk: %v", err)
				}
			}
		})
		all.Go(func() {
			for range 50 {
				if err := commit(e, lazily(put("beat", []byte("2")))); err != nil {
					t.Errorf("a heartbeat beside what does not fit: %v", err)
				}
			}
		})
	}
	all.Wait()
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
	if fmt.Sprint(published) != fmt.Sprint(stored) {
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
			return b.Put([]byte("a"), format.EncodeRecord(key, 0, 1, []byte("old")))
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
			if !errors.Is(err, store.ErrDamaged) || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), format.GoOn) {
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
	err = db.Update(func(tx *bbolt.Tx) error {
		if err := change(tx.Bucket([]byte(format.BucketPrefix + "things"))); err != nil {
			return err
		}
		if state, err := readState(tx); err == nil { // else it is of another format
			return writeState(tx, state) // of this transaction
		}
		return nil
	})
	if err != nil {
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
	inUse, err := format.Walk(whole)
	if err != nil {
		t.Fatal(err)
	}
	noticed := 0
	for page := -1; page < len(inUse); page++ {
		data := bytes.Clone(whole)
		switch page {
		case 0, 1:
			continue // one of the two meta pages is enough
		case -1:
			copy(data, bytes.Repeat([]byte{0xa5}, 2*pageSize))
		default:
			copy(data[page*pageSize:], bytes.Repeat([]byte{0xa5}, pageSize))
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		e, err := Open(path, Options{})
		if err == nil {
			err = e.Scan(context.Background(), "things", func(store.Record) error { return nil })
			e.Close()
		}
		if used := page == -1 || inUse[page]; used != (err != nil) {
			t.Errorf("page %d, used %t: %v", page, used, err)
		}
		if err != nil {
			noticed++
			if !errors.Is(err, store.ErrDamaged) || !strings.Contains(err.Error(), format.GoOn) {
				t.Errorf("page %d: %v", page, err)
			}
		}
	}
	if noticed < 40 {
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

// TestLockOfTheDead: a child that a dead process was about to make something of still has
// its lock, and gives it up soon.
func TestLockOfTheDead(t *testing.T) {
	dead := exec.Command("/bin/true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), testFile)
	child, err := os.Create(path + ".lock")
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(child.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintln(child, dead.Process.Pid); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(50*time.Millisecond, func() { child.Close() })
	lock, err := Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	var locked *LockedError
	if _, err := Lock(path); !errors.As(err, &locked) || locked.PID != os.Getpid() {
		t.Errorf("afterwards: %v", err)
	}
}

// TestFlippedBits changes single bytes: the store notices, or it did not matter.
func TestFlippedBits(t *testing.T) {
	path := filepath.Join(t.TempDir(), testFile)
	e := mustOpen(t, path, Options{Reserve: 10})
	for i := range 60 {
		op := put(fmt.Sprintf("name-%d", i), make([]byte, i*20))
		op.Lazy = i%3 == 0
		if err := commit(e, op); err != nil {
			t.Fatal(err)
		}
	}
	e.Flush(context.Background())
	whole, err := os.ReadFile(e.path) // as a crash would leave it
	if err != nil {
		t.Fatal(err)
	}
	e.Close()
	flipped := filepath.Join(t.TempDir(), testFile)
	state := func(data []byte) (string, error) {
		if err := os.WriteFile(flipped, data, 0o600); err != nil {
			t.Fatal(err)
		}
		e, err := Open(flipped, Options{})
		if err != nil {
			return "", err
		}
		defer e.Close()
		text := fmt.Sprintln(e.Revision())
		err = e.Scan(context.Background(), "things", func(r store.Record) error {
			text += fmt.Sprintln(r.Key, r.Revision, len(r.Value), bytes.Count(r.Value, []byte{0}))
			return nil
		})
		return text, err
	}
	want, err := state(whole)
	if err != nil {
		t.Fatal(err)
	}
	inUse, _ := format.Walk(whole)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 2))
	noticed := 0
	for page, used := range inUse {
		for n := 0; used && n < 12; n++ {
			data := bytes.Clone(whole)
			at, bit := page*pageSize+random.IntN(pageSize>>(n%6)), byte(1)<<random.IntN(8)
			data[at] ^= bit
			got, err := state(data)
			if err != nil {
				noticed++
			} else if got != want {
				t.Errorf("byte %d of page %d, bit %08b: opened with\n%swant\n%s", at%pageSize, page, bit, got, want)
			}
		}
	}
	if noticed == 0 {
		t.Error("nothing was noticed")
	}
}

// TestDamageStaysAlone: of what is committed together, only what touches the
// damage fails.
func TestDamageStaysAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), testFile)
	e := mustOpen(t, path, Options{})
	for i := range 50 {
		name := fmt.Sprintf("%02d", i)
		if err := commit(e, put(name, fmt.Appendf(nil, "marker %s%01000d", name, 0))); err != nil {
			t.Fatal(err)
		}
	}
	// While it is open, as a dying disk does it: every page with that record.
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	page := make([]byte, pageSize)
	for at := int64(2 * pageSize); ; at += pageSize {
		if _, err := f.ReadAt(page, at); err != nil {
			break
		}
		if !bytes.Contains(page, []byte("marker 25")) {
			continue
		}
		if _, err := f.WriteAt(bytes.Repeat([]byte{0xa5}, pageSize), at); err != nil {
			t.Fatal(err)
		}
	}
	var all sync.WaitGroup
	for name, damaged := range map[string]bool{"25": true, "01": false, "48": false} {
		all.Go(func() {
			for range 20 {
				if err := commit(e, put(name, []byte("new"))); errors.Is(err, store.ErrDamaged) != damaged || !damaged && err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
	all.Wait()
}
