package bolt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/skiff-sh/skiff/internal/store"
)

const syncErrorDir = "SKIFF_TEST_SYNC_ERROR_DIR"

// TestSyncError has a child process whose fdatasync fails like that of a dying
// disk: nothing is acknowledged or published, and nothing is tried again.
func TestSyncError(t *testing.T) {
	dir := t.TempDir()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), syncErrorDir+"="+dir)
	out, err := child.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !strings.Contains(string(out), "refused as it should be") {
		t.Fatalf("%s", out)
	}
	e, err := Open(filepath.Join(dir, testFile), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	found := map[string]bool{}
	if err := e.Scan(context.Background(), "things", func(r store.Record) error {
		found[r.Key.Name] = true
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if !found["before"] || found["later"] {
		t.Fatalf("the store holds %v", found)
	}
}

// writeUntilSyncFails is the child.
func writeUntilSyncFails(dir string) int {
	e, err := Open(filepath.Join(dir, testFile), Options{})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	published := 0
	e.Follow(func(changes []store.Change) { published += len(changes) })
	put := func(name string) error {
		_, err := e.Commit(context.Background(), []store.Op{{Key: store.Key{Bucket: "things", Name: name}, Expect: store.Any, Value: []byte("x")}})
		return err
	}
	if err := put("before"); err != nil {
		fmt.Println(err)
		return 1
	}
	if err := e.Err(); err != nil {
		fmt.Println("before anything failed:", err)
		return 1
	}
	if err := failSyncs(unix.SYS_FDATASYNC); err != nil {
		fmt.Println("seccomp:", err)
		return 1
	}
	first, second := put("during"), put("later")
	if !errors.Is(first, syscall.EIO) || !errors.Is(second, syscall.EIO) || published != 1 {
		fmt.Printf("first %v, second %v, published %d\n", first, second, published)
		return 1
	}
	select {
	case <-e.Failed():
	default:
		fmt.Println("the engine does not say that it failed")
		return 1
	}
	if err := e.Err(); !errors.Is(err, syscall.EIO) {
		fmt.Println("err:", err)
		return 1
	}
	if err := e.Close(); !errors.Is(err, syscall.EIO) {
		fmt.Println("close:", err)
		return 1
	}
	fmt.Println("refused as it should be:", second)
	return 0
}

// TestSyncErrorInCompaction has a child process compact while fdatasync fails, as
// it does on the copy, and while fsync fails, as it does on the directory that has
// the new name. The copy alone harms nobody; with the name in doubt nothing is
// acknowledged any more. Either way, all that was is there.
func TestSyncErrorInCompaction(t *testing.T) {
	for name, test := range map[string]struct {
		call uint32
		want string
	}{
		"copy":      {unix.SYS_FDATASYNC, "compact store: input/output error, compactions 0, then <nil>"},
		"directory": {unix.SYS_FSYNC, "check the disk and start again, compactions 1, then the store cannot write any more"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			child := exec.Command(os.Args[0])
			child.Env = append(os.Environ(), syncErrorDir+"="+dir, fmt.Sprint(syncErrorCall, "=", test.call))
			out, err := child.CombinedOutput()
			if err != nil || !strings.Contains(string(out), test.want) {
				t.Fatalf("%v\n%s", err, out)
			}
			e := mustOpen(t, filepath.Join(dir, testFile), Options{})
			if n := len(names(t, e)); n != 500 {
				t.Errorf("%d records, want 500", n)
			}
			if left, _ := filepath.Glob(e.path + "?*"); len(left) != 1 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

const syncErrorCall = "SKIFF_TEST_SYNC_ERROR_CALL"

// compactWhileSyncFails is the child.
func compactWhileSyncFails(dir, call string) int {
	e, err := Open(filepath.Join(dir, testFile), Options{})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	for i := range 500 {
		op := store.Op{Key: store.Key{Bucket: "things", Name: fmt.Sprint(i)}, Expect: store.Any, Value: make([]byte, 1000)}
		if _, err := e.Commit(context.Background(), []store.Op{op}); err != nil {
			fmt.Println(err)
			return 1
		}
	}
	number, err := strconv.ParseUint(call, 10, 32)
	if err == nil {
		err = failSyncs(uint32(number))
	}
	if err != nil {
		fmt.Println("seccomp:", err)
		return 1
	}
	err = e.Compact(context.Background())
	fmt.Printf("%v, compactions %d, then %v\n", err, e.Stats().Compactions, e.Err())
	return 0
}

// failSyncs makes every further fdatasync, or another call, of this process return
// EIO, by a seccomp filter on all threads.
func failSyncs(call uint32) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // the system call's number
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: call, Jt: 0, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EIO)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC,
		uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return errno
	}
	return nil
}
