package bolt

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"

	"github.com/skiff-sh/skiff/internal/store"
	"github.com/skiff-sh/skiff/internal/store/bolt/format"
)

const (
	pageSize   = format.PageSize
	initialMap = 1 << 30 // of address space: a file that outgrows it waits for its readers
)

// database is a bbolt file that is open.
type database struct {
	*bbolt.DB
	file *os.File
	// broken: bbolt panicked with its locks held, and who asks for them waits
	// for ever.
	broken atomic.Bool
}

// openDatabase opens or creates a bbolt file, whose pages must have been
// verified.
func openDatabase(path string, noSync bool) (*database, error) {
	d := &database{}
	opened := false
	defer func() {
		if !opened && d.file != nil {
			// bbolt panicked over what it found, and its map keeps the lock.
			d.abandon()
		}
	}()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout:         time.Nanosecond, // our own lock comes first: never wait for bbolt's
		NoFreelistSync:  true,
		FreelistType:    bbolt.FreelistMapType,
		PageSize:        pageSize,
		InitialMmapSize: initialMap,
		NoSync:          noSync,
		OpenFile: func(name string, flag int, mode os.FileMode) (_ *os.File, err error) {
			d.file, err = os.OpenFile(name, flag, mode)
			return d.file, err
		},
	})
	opened = true
	if err != nil {
		return nil, openError(path, err)
	}
	db.AllocSize = growBy
	d.DB = db
	return d, nil
}

// abandon frees the file's lock without bbolt's help.
func (d *database) abandon() {
	_ = unix.Flock(int(d.file.Fd()), unix.LOCK_UN)
	d.file.Close()
}

// begin starts a transaction.
func (d *database) begin(writable bool) (*bbolt.Tx, error) {
	if d.broken.Load() {
		return nil, fmt.Errorf("%w: the file was changed from outside while it was open; start again", store.ErrDamaged)
	}
	done := false
	defer func() {
		if !done {
			d.broken.Store(true) // the panic goes on to the guard
		}
	}()
	tx, err := d.DB.Begin(writable)
	done = true
	return tx, closedError(err)
}

// undo ends a transaction unless it is committed already.
func (d *database) undo(tx *bbolt.Tx) error {
	err := guard(tx.Rollback)
	if err == nil || errors.Is(err, berrors.ErrTxClosed) {
		return nil
	}
	d.broken.Store(true)
	return err
}

// Close waits for the readers and closes the file.
func (d *database) Close() error {
	if d.broken.Load() {
		d.abandon()
		return nil
	}
	return d.DB.Close()
}
