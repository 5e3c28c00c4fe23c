package bolt

import (
	"context"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// spreadBytes is how much of a large file waits for the disk at once.
const spreadBytes = 1 << 20

// Spread returns a writer to a large file that brings what is written to disk
// piece by piece. Left to the kernel, the next sync of a file beside it would
// wait for all of it. The file still has to be synced at the end.
func Spread(f *os.File) io.Writer { return &spread{file: f} }

type spread struct {
	file     *os.File
	from, to int64 // what may not be on its way to the disk yet
}

func (s *spread) Write(p []byte) (n int, err error) {
	n, err = s.file.Write(p)
	if s.to += int64(n); s.to-s.from >= spreadBytes {
		// Where the file system cannot do it, the last sync does all.
		_ = unix.SyncFileRange(int(s.file.Fd()), s.from, s.to-s.from,
			unix.SYNC_FILE_RANGE_WAIT_BEFORE|unix.SYNC_FILE_RANGE_WRITE|unix.SYNC_FILE_RANGE_WAIT_AFTER)
		s.from = s.to
	}
	return n, err
}

// contextWriter ends a copy with its context.
type contextWriter struct {
	ctx context.Context
	w   io.Writer
}

func (c contextWriter) Write(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.w.Write(p)
}
