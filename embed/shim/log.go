package main

import (
	"bytes"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// maxLine is the most bytes of one log entry; longer lines become several,
// marked P but for the last.
const maxLine = 16 << 10

// logFile writes the CRI log format: TIME STREAM TAG TEXT. Errors in writing
// are dropped: a full disk must not stop a container.
type logFile struct {
	path string

	mu sync.Mutex // of the file and its entries' order
	f  *os.File
}

func openLog(path string) (*logFile, error) {
	l := &logFile{path: path}
	if path == "" {
		return l, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	return l, l.reopen()
}

// reopen opens the file by its name again, after it was renamed for rotation.
func (l *logFile) reopen() error {
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f != nil {
		l.f.Close()
	}
	l.f = f
	return nil
}

func (l *logFile) write(entries []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f != nil {
		l.f.Write(entries)
	}
}

func (l *logFile) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f != nil {
		l.f.Close()
		l.f = nil
	}
}

// lines cuts one stream into log entries. Not safe for concurrent use.
type lines struct {
	stream string // "stdout" or "stderr"
	rest   []byte // begun line, at most maxLine long
	out    []byte
}

// add returns the entries that data completes; valid until the next call.
func (l *lines) add(data []byte, now time.Time) []byte {
	l.out = l.out[:0]
	for len(data) > 0 {
		line, after, whole := bytes.Cut(data, []byte{'\n'})
		if room := maxLine - len(l.rest); len(line) > room {
			// A line of exactly maxLine is one entry: more must have come.
			l.rest = append(l.rest, line[:room]...)
			l.entry("P", l.rest, now)
			l.rest = l.rest[:0]
			data = data[room:]
			continue
		}
		l.rest = append(l.rest, line...)
		if !whole {
			break
		}
		l.entry("F", bytes.TrimSuffix(l.rest, []byte{'\r'}), now)
		l.rest = l.rest[:0]
		data = after
	}
	return l.out
}

// end returns the entry of a last line without a line feed.
func (l *lines) end(now time.Time) []byte {
	l.out = l.out[:0]
	if len(l.rest) > 0 {
		l.entry("P", l.rest, now)
		l.rest = nil
	}
	return l.out
}

func (l *lines) entry(tag string, text []byte, now time.Time) {
	l.out = now.AppendFormat(l.out, time.RFC3339Nano)
	l.out = append(l.out, ' ')
	l.out = append(l.out, l.stream...)
	l.out = append(l.out, ' ')
	l.out = append(l.out, tag...)
	l.out = append(l.out, ' ')
	l.out = append(l.out, text...)
	l.out = append(l.out, '\n')
}
