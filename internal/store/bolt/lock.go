package bolt

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// LockedError says who has the store.
type LockedError struct {
	Path string
	PID  int // 0 when it could not be told
}

func (e *LockedError) Error() string {
	holder := "another process"
	if e.PID != 0 {
		holder = fmt.Sprintf("process %d", e.PID)
	}
	return fmt.Sprintf("%s holds the store %s; stop it, or choose another data directory", holder, e.Path)
}

// Lock keeps every engine from the store at path, which need not be there, until
// it is closed. When one has it already the error is a *LockedError.
func Lock(path string) (io.Closer, error) {
	f, err := lockFile(path)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// lockFile takes the lock beside the store and writes our process id in it. The
// kernel frees it when the process ends, however it ends; the file stays, since
// removing it would let two processes lock two files of one name.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock store: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		pid := holder(f)
		if pid == 0 || !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) || !inherit(f) {
			f.Close()
			return nil, &LockedError{Path: path, PID: pid}
		}
		err = nil
	}
	if err == nil {
		err = writePID(f)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock store %s: %w", path, err)
	}
	return f, nil
}

// holder is the process that says it has the lock, 0 if it does not say.
func holder(f *os.File) int {
	text, _ := io.ReadAll(io.LimitReader(f, 32))
	pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	return pid
}

// deathPatience is how long a lock may outlive the process that took it: a child that was
// about to become another program has it until it does.
const deathPatience = 5 * time.Second

// inherit waits for the lock of a process that is dead, and says whether it came. If not,
// the wait goes on until the kernel ends it, and takes a lock of its own that nobody has.
func inherit(f *os.File) bool {
	own, err := syscall.Dup(int(f.Fd()))
	if err != nil {
		return false
	}
	taken := make(chan error, 1)
	var wait sync.WaitGroup
	wait.Go(func() {
		taken <- syscall.Flock(own, syscall.LOCK_EX)
		syscall.Close(own)
	})
	late := time.NewTimer(deathPatience)
	defer late.Stop()
	select {
	case err := <-taken:
		return err == nil
	case <-late.C:
		return false
	}
}

// writePID overwrites first and cuts afterwards, so that a reader never finds
// the file empty. A full disk is no reason not to open the store for reading.
func writePID(f *os.File) error {
	text := strconv.Itoa(os.Getpid()) + "\n"
	if _, err := f.WriteAt([]byte(text), 0); err != nil {
		if isFull(err) {
			return nil
		}
		return err
	}
	return f.Truncate(int64(len(text)))
}

// Holder returns the process that holds the store at path, 0 if none does.
func Holder(path string) (pid int, err error) {
	if _, err := os.Stat(path + ".lock"); errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	f, err := lockFile(path)
	var locked *LockedError
	if errors.As(err, &locked) {
		return locked.PID, nil
	}
	if err != nil {
		return 0, err
	}
	return 0, f.Close()
}
