package main

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// logBytes is the room that the log goes round in.
const logBytes = 64 << 20

// log is the physical limit: records appended to a file that is there already,
// one fdatasync for all that waited. It keeps no objects and finds none again.
type log struct {
	file   *os.File
	queue  chan logEntry
	done   chan struct{}
	groups atomic.Int64
}

type logEntry struct {
	value []byte
	reply chan error
}

func newLog(path string) (*log, error) {
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	// Written, not only reserved: reserved blocks cost the file system a journal
	// entry when they are written for the first time.
	zeros := make([]byte, 1<<20)
	for at := int64(0); at < logBytes; at += int64(len(zeros)) {
		if _, err := file.WriteAt(zeros, at); err != nil {
			return nil, fmt.Errorf("preallocate the log: %w", err)
		}
	}
	if err := file.Sync(); err != nil {
		return nil, fmt.Errorf("preallocate the log: %w", err)
	}
	l := &log{file: file, queue: make(chan logEntry, 4096), done: make(chan struct{})}
	go l.run()
	return l, nil
}

func (l *log) name() string   { return "log" }
func (l *log) pids() []int    { return nil }
func (l *log) commits() int64 { return l.groups.Load() }

func (l *log) update(_ context.Context, _ int, value []byte) error {
	reply := make(chan error, 1)
	l.queue <- logEntry{value, reply}
	return <-reply
}

// run writes what is waiting, syncs, and answers.
func (l *log) run() {
	defer close(l.done)
	at := int64(0)
	var group []byte
	for first := range l.queue {
		replies := []chan error{first.reply}
		group = append(append(group[:0], make([]byte, 32)...), first.value...) // 32: key, revision, checksum
		for waiting := len(l.queue); waiting > 0; waiting-- {
			next := <-l.queue
			replies = append(replies, next.reply)
			group = append(append(group, make([]byte, 32)...), next.value...)
		}
		if at+int64(len(group)) > logBytes {
			at = 0
		}
		_, err := l.file.WriteAt(group, at)
		if err == nil {
			err = unix.Fdatasync(int(l.file.Fd()))
		}
		at += int64(len(group))
		l.groups.Add(1)
		for _, reply := range replies {
			reply <- err
		}
	}
}

func (l *log) close() error {
	close(l.queue)
	<-l.done
	return l.file.Close()
}
