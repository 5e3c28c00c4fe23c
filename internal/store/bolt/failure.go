package bolt

import (
	"errors"
	"fmt"
	"io/fs"
	"runtime/debug"
	"strings"
	"syscall"

	berrors "go.etcd.io/bbolt/errors"

	"github.com/skiff-sh/skiff/internal/store"
	"github.com/skiff-sh/skiff/internal/store/bolt/format"
)

// guard turns a panic of bbolt and a fault of its memory map (a page that the
// disk cannot read) into an error.
func guard(fn func() error) (err error) {
	faults := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(faults)
		if reason := recover(); reason != nil {
			err = fmt.Errorf("%w: %v; "+format.GoOn, store.ErrDamaged, reason)
		}
	}()
	return fn()
}

// fatalError wraps what no later commit can mend.
type fatalError struct{ cause error }

func (f *fatalError) Error() string {
	return fmt.Sprintf("the store cannot write any more: %v; check the disk and start again", f.cause)
}

func (f *fatalError) Unwrap() error { return f.cause }

// diskError classifies an error of bbolt's commit. bbolt passes a failed write
// on as *fs.PathError, after which the transaction is undone; a bare errno comes
// from fdatasync, maybe from the one after the meta page was written, and leaves
// it open what is on disk.
func diskError(err error) error {
	var path *fs.PathError
	switch {
	case errors.As(err, &path) && isFull(path.Err):
		return fmt.Errorf("%w: %v; free some space, and it goes on by itself", store.ErrFull, err)
	case strings.HasPrefix(err.Error(), "file resize error") && strings.Contains(err.Error(), syscall.ENOSPC.Error()):
		// bbolt flattens this one to text.
		return fmt.Errorf("%w: %v; free some space, and it goes on by itself", store.ErrFull, err)
	}
	return err
}

// openError names what bbolt found wrong with a file.
func openError(path string, err error) error {
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return &LockedError{Path: path} // somebody who did not take our lock
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrChecksum), errors.Is(err, berrors.ErrVersionMismatch):
		return fmt.Errorf("%w: %v; "+format.GoOn, store.ErrDamaged, err)
	}
	return diskError(err)
}

func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// closedError names a closed database as the contract does.
func closedError(err error) error {
	if errors.Is(err, berrors.ErrDatabaseNotOpen) {
		return store.ErrClosed
	}
	return err
}
