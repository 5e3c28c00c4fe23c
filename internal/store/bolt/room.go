package bolt

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/skiff-sh/skiff/internal/store"
	"github.com/skiff-sh/skiff/internal/store/bolt/format"
)

// Even a deletion writes pages, and a disk is full until something is deleted.
// So the disk is made to set aside the next bytes of the file before they are
// needed. When it refuses, what was set aside is left to commits that make
// nothing larger, and the others are told that the disk is full.
const (
	keptBytes = 512 << 10
	// growBy is how much of the disk is asked for at once, since the file's new
	// length is synced each time.
	growBy = 1 << 20
	// pagesPerPut is what a put can take beside its value: parts of a leaf that
	// was split, and of branches.
	pagesPerPut = 2
	// thriftyBytes is how much a record may grow in a commit that counts as not
	// making anything larger: the mark of deletion on an object that is to go.
	thriftyBytes = 128
)

// room returns the most that a put takes of the file.
func room(op *store.Op) int64 {
	if op.Action != store.Put {
		return 0
	}
	return int64(len(op.Key.Name)+format.HeaderBytes+len(op.Value)) + pagesPerPut*pageSize
}

// reserve has the disk set aside room for so many bytes and keptBytes behind
// them. The file is in use up to used.
func (e *Engine) reserve(used, bytes int64) (roomy bool, err error) {
	end := used + bytes + keptBytes
	if e.usable >= bytes+keptBytes || end <= e.setAside {
		return true, nil
	}
	grown := (end + growBy - 1) / growBy * growBy
	err = unix.Fallocate(int(e.db.file.Fd()), 0, used, grown-used)
	if isFull(err) {
		grown = end
		err = unix.Fallocate(int(e.db.file.Fd()), 0, used, grown-used)
	}
	switch {
	case isFull(err):
		return false, nil
	case errors.Is(err, unix.EINTR):
		return e.reserve(used, bytes)
	case err != nil:
		// Not every file system can; what is wrong with the disk, the commit
		// will tell.
		return true, nil
	}
	if !e.options.NoSync {
		if err := e.db.file.Sync(); err != nil {
			e.giveUp(err)
			return false, e.fatal
		}
		e.stats.syncs.Add(1)
	}
	e.setAside = grown
	return true, nil
}

// errKept tells who is refused while there is room for others.
var errKept = fmt.Errorf("%w: what is left of the disk is kept for deletions; free some space, and it goes on by itself", store.ErrFull)

// thrifty reports whether a request makes nothing larger.
func (b *batch) thrifty(r *request) bool {
	for i := range r.ops {
		op := &r.ops[i]
		if op.Action != store.Put {
			continue
		}
		stored, err := b.space.header(op.Key)
		if err != nil || stored == nil || format.HeaderBytes+len(op.Value) > stored.Size+thriftyBytes {
			return false
		}
	}
	return !r.flush
}
