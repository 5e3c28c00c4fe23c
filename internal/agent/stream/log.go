package stream

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// LogOptions say which part of a log is wanted.
type LogOptions struct {
	Follow     bool
	Tail       *int64 // lines
	Since      time.Time
	Timestamps bool
	Limit      *int64 // bytes
	Stream     string // "stdout", "stderr"; "" is both
}

// maxLine bounds the memory a broken log costs; the runtime's lines are 16 KiB.
const maxLine = 1 << 20

// Copy writes a container's log to w, calling flush where the reader would
// otherwise wait. Following goes on across rotation until done is closed and
// all is read, or the context ends.
func Copy(ctx context.Context, path string, o LogOptions, done <-chan struct{}, w io.Writer, flush func()) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer func() { f.Close() }()
	var changes *watcher
	if o.Follow {
		// Watch before reading, so that no line falls in between.
		if changes, err = watchDir(filepath.Dir(path)); err != nil {
			return err
		}
		defer changes.Close()
	}
	begin, end, err := span(f, o.Tail)
	if err != nil {
		return err
	}
	c := copier{options: o, w: w}
	if !o.Follow {
		// What comes while this is read is not of the last lines that were asked for.
		if err := c.readAll(io.NewSectionReader(f, begin, end-begin)); err != nil && !errors.Is(err, errLimit) {
			return err
		}
		flush()
		return nil
	}
	if _, err := f.Seek(begin, io.SeekStart); err != nil {
		return fmt.Errorf("seek in log: %w", err)
	}
	for {
		// Whether it is over must be known before reading on: what was written
		// before the end is then read for sure.
		over := closed(done)
		if err := c.readAll(f); err != nil {
			if errors.Is(err, errLimit) {
				return nil
			}
			return err
		}
		flush()
		if next := reopened(path, f); next != nil {
			// The writer turned to a new file after its last line in this one.
			if err := c.readAll(f); err != nil && !errors.Is(err, errLimit) {
				next.Close()
				return err
			}
			f.Close()
			f, c.partial = next, nil
			continue
		}
		if over {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-done:
		case <-changes.C:
		}
	}
}

// span is where the last lines that are asked for begin, or all, and where they end.
func span(f *os.File, tail *int64) (begin, end int64, err error) {
	now, err := f.Stat()
	if err != nil {
		return 0, 0, fmt.Errorf("read log: %w", err)
	}
	end = now.Size()
	if tail != nil {
		begin, err = tailOffset(f, end, *tail)
	}
	return begin, end, err
}

func closed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// reopened returns the file that is at path if it is another one than f.
func reopened(path string, f *os.File) *os.File {
	now, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || err != nil {
		return nil
	}
	was, err := f.Stat()
	if err != nil || os.SameFile(was, now) {
		return nil
	}
	next, err := os.Open(path)
	if err != nil {
		return nil
	}
	return next
}

// errLimit says that as much was written as was asked for.
var errLimit = errors.New("limit reached")

// copier writes the wanted part of each line.
type copier struct {
	options LogOptions
	w       io.Writer
	written int64
	partial []byte // of a line that is not complete yet
	inLine  bool   // the last line written was partial
}

func (c *copier) readAll(f io.Reader) error {
	r := bufio.NewReaderSize(f, 64<<10)
	for {
		raw, err := r.ReadSlice('\n')
		if len(raw) > 0 && len(c.partial) < maxLine {
			c.partial = append(c.partial, raw...)
		}
		switch {
		case err == nil:
			complete := c.partial
			c.partial = c.partial[:0]
			if err := c.line(complete); err != nil {
				return err
			}
		case errors.Is(err, io.EOF):
			return nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return fmt.Errorf("read log: %w", err)
		}
	}
}

func (c *copier) line(raw []byte) error {
	l, err := parseLine(raw)
	if err != nil {
		return nil // one broken line must not hide the others
	}
	if c.options.Stream != "" && l.Stream != c.options.Stream || l.Time.Before(c.options.Since) {
		return nil
	}
	text := l.Text
	if c.options.Timestamps && !c.inLine {
		text = append(append(append([]byte{}, l.Stamp...), ' '), text...)
	}
	c.inLine = len(l.Text) > 0 && l.Text[len(l.Text)-1] != '\n'
	if limit := c.options.Limit; limit != nil {
		if left := *limit - c.written; int64(len(text)) >= left {
			if _, err := c.w.Write(text[:max(left, 0)]); err != nil {
				return fmt.Errorf("send log: %w", err)
			}
			return errLimit
		}
	}
	n, err := c.w.Write(text)
	c.written += int64(n)
	if err != nil {
		return fmt.Errorf("send log: %w", err)
	}
	return nil
}
