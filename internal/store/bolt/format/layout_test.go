package format

import (
	"bytes"
	"encoding/binary"
	"io"
	"testing"
)

// readCounter counts what is read.
type readCounter struct {
	io.ReaderAt
	bytes int
}

func (c *readCounter) ReadAt(p []byte, at int64) (int, error) {
	c.bytes += len(p)
	return c.ReaderAt.ReadAt(p, at)
}

// What is no page must not have all that follows read: a search through many of
// them would never end.
func TestNoPageIsReadAsOne(t *testing.T) {
	file := bytes.Repeat([]byte{0xa5}, 1000*PageSize)
	binary.NativeEndian.PutUint32(file[7*PageSize+12:], 900) // pages that follow
	counter := &readCounter{ReaderAt: bytes.NewReader(file)}
	l, err := source{counter, 1000}.page(7)
	if err != nil || len(l.faults) == 0 {
		t.Fatalf("%+v, %v", l, err)
	}
	if counter.bytes > 2*PageSize {
		t.Errorf("%d bytes were read", counter.bytes)
	}
}
