package bolt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skiff-sh/skiff/internal/store"
	"github.com/skiff-sh/skiff/internal/store/bolt/format"
)

// TestOtherOwner opens a store as a user who may not: the file, its lock, and
// the directory.
func TestOtherOwner(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("giving files away takes root")
	}
	const user = 65534
	for name, test := range map[string]struct {
		lock, file os.FileMode
		want       string
	}{
		"all":  {0o600, 0o600, "store.db.lock: permission denied"},
		"file": {0o666, 0o600, "store.db: permission denied"},
		"read": {0o666, 0o644, "store.db: permission denied"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, err := os.MkdirTemp("/tmp", "skiff-test-") // one that others may enter
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(dir)
			path := filepath.Join(dir, testFile)
			mustOpen(t, path, Options{}).Close()
			for of, mode := range map[string]os.FileMode{dir: 0o755, path + ".lock": test.lock, path: test.file} {
				if err := os.Chmod(of, mode); err != nil {
					t.Fatal(err)
				}
			}
			result := make(chan error)
			go func() {
				runtime.LockOSThread() // never unlocked: the thread ends with its user
				if _, err := unix.SetfsuidRetUid(user); err != nil {
					result <- err
					return
				}
				_, err := Open(path, Options{})
				result <- err
			}()
			err = <-result
			if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), test.want) ||
				!strings.Contains(err.Error(), "belongs to user 0") || !strings.Contains(err.Error(), "run as the owner") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestDirectoryInPlace(t *testing.T) {
	_, err := Open(t.TempDir(), Options{})
	if !errors.Is(err, syscall.EISDIR) || !strings.Contains(err.Error(), "choose another data directory") {
		t.Errorf("a directory: %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(filepath.Join(file, testFile), Options{}); !errors.Is(err, syscall.ENOTDIR) || !strings.Contains(err.Error(), "choose another") {
		t.Errorf("in a file: %v", err)
	}
}

// TestNewerFormat names both formats, and changes nothing.
func TestNewerFormat(t *testing.T) {
	path := filepath.Join(t.TempDir(), testFile)
	mustOpen(t, path, Options{}).Close()
	db, err := openDatabase(path, true)
	if err != nil {
		t.Fatal(err)
	}
	tx, err := db.begin(true)
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.Bucket([]byte(format.MetaBucket)).Put([]byte(format.MetaState), append([]byte{2}, "what it says is not known here"...)); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	db.Close()
	before, _ := os.ReadFile(path)
	_, err = Open(path, Options{})
	if err == nil || !strings.Contains(err.Error(), "its format is 2, this program knows 1; use the version of skiff that wrote it") {
		t.Errorf("got %v", err)
	}
	if after, _ := os.ReadFile(path); string(after) != string(before) {
		t.Error("the file has changed")
	}
}

// TestReadOnlyDisk opens a store on a disk that can only be read.
func TestReadOnlyDisk(t *testing.T) {
	dir := smallDisk(t, "8m")
	path := filepath.Join(dir, testFile)
	mustOpen(t, path, Options{}).Close()
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, Options{}); !errors.Is(err, syscall.EROFS) || !strings.Contains(err.Error(), "mount it for writing") {
		t.Errorf("got %v", err)
	}
}

// TestTruncatedWhileOpen cuts the file under the engine: what was there is an
// error for who needs it, and nobody hangs.
func TestTruncatedWhileOpen(t *testing.T) {
	for _, pages := range []int64{0, 1, 2, 20} {
		t.Run(fmt.Sprint(pages), func(t *testing.T) {
			e := mustOpen(t, filepath.Join(t.TempDir(), testFile), Options{})
			fill(t, e, 300)
			if err := os.Truncate(e.path, pages*pageSize); err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				for name, do := range map[string]func() error{
					"scan":     func() error { return e.Scan(context.Background(), "things", func(store.Record) error { return nil }) },
					"commit":   func() error { return commit(e, put(benchName(1), nil)) },
					"snapshot": func() error { return e.Snapshot(context.Background(), io.Discard) },
					"compact":  func() error { return e.Compact(context.Background()) },
				} {
					if err := do(); err == nil {
						t.Errorf("%s: no error", name)
					}
				}
				var found []store.Damage
				err := e.Check(context.Background(), func(d store.Damage) { found = append(found, d) })
				if err == nil && len(found) == 0 {
					t.Error("the check found nothing")
				}
				e.Close()
			}()
			select {
			case <-done:
			case <-time.After(20 * time.Second):
				t.Fatal("it hangs")
			}
		})
	}
}

// loopDisk makes a file system on a loop device whose file is sparse, on a file
// system in memory of a size; it returns where both are mounted.
func loopDisk(t *testing.T, size string) (dir, below string) {
	t.Helper()
	below, dir = smallDisk(t, size), t.TempDir()
	image := filepath.Join(below, "image")
	f, err := os.Create(image)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := os.Truncate(image, 64<<20); err != nil {
		t.Fatal(err)
	}
	run(t, "mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,nodiscard", image)
	mountLoop(t, image, dir)
	return dir, below
}

func mountLoop(t *testing.T, image, dir string) {
	t.Helper()
	run(t, "mount", "-o", "loop", image, dir)
	t.Cleanup(func() { exec.Command("umount", "-l", dir).Run() })
}

func run(t *testing.T, program string, args ...string) {
	t.Helper()
	if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", program, err, out)
	}
}

// TestDiskError takes the room below a disk, which then fails to write: that is
// the end of all commits, reads go on, and what was acknowledged is there when
// the disk works again.
func TestDiskError(t *testing.T) {
	dir, below := loopDisk(t, "24m")
	path := filepath.Join(dir, testFile)
	e := mustOpen(t, path, Options{})
	fill(t, e, 200)
	fillDisk(t, below)
	stored := 200
	var err error
	for ; err == nil && stored < 40_000; stored++ {
		err = commit(e, put(benchName(stored), make([]byte, benchBytes)))
	}
	stored--
	var fatal *fatalError
	if !errors.As(err, &fatal) || !strings.Contains(err.Error(), "check the disk and start again") {
		t.Fatalf("after %d records: %v", stored, err)
	}
	t.Logf("after %d records: %v", stored, err)
	if err := e.Err(); !errors.As(err, &fatal) {
		t.Errorf("the engine says %v", err)
	}
	if n := len(names(t, e)); n != stored {
		t.Errorf("%d records can be read, want %d", n, stored)
	}
	e.Close()
	run(t, "umount", dir)
	if err := os.Remove(filepath.Join(below, "rest")); err != nil {
		t.Fatal(err)
	}
	mountLoop(t, filepath.Join(below, "image"), dir)
	if n := len(names(t, mustOpen(t, path, Options{}))); n < stored || n > stored+1 {
		t.Errorf("%d records after the disk was mended, want %d", n, stored)
	}
}

// TestDiskTurnsReadOnly has the file system give up, as it does over an error of
// its own.
func TestDiskTurnsReadOnly(t *testing.T) {
	dir, _ := loopDisk(t, "24m")
	e := mustOpen(t, filepath.Join(dir, testFile), Options{})
	fill(t, e, 50)
	if out, err := exec.Command("mount", "-o", "remount,abort", dir).CombinedOutput(); err != nil {
		t.Logf("%v: %s", err, out) // it says so, and does it
	}
	err := commit(e, put("after", nil))
	if err == nil || !errors.Is(err, syscall.EROFS) && !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), "check the disk and start again") {
		t.Errorf("a commit: %v", err)
	}
	t.Logf("%v", err)
	if n := len(names(t, e)); n != 50 {
		t.Errorf("%d records can be read, want 50", n)
	}
}

// smallDisk mounts a file system of a size.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting a small file system takes root")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// fillDisk leaves no room on the file system, by a file named rest.
func fillDisk(t *testing.T, dir string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, "rest"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, pageSize); err == nil; {
		_, err = f.Write(block)
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
}
