// Package oom hears from the kernel's log that memory ran out.
//
// Watch reads the log from where it ends now and calls back with a Victim for each
// process that the kernel killed for its memory. The kernel says so in several lines,
// which differ between its versions; a scanner puts them together. The package reads
// and never judges: whether it was the machine's memory or a cgroup's limit that ran
// out, the Victim says.
package oom

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
)

// Victim is a process that the kernel killed.
type Victim struct {
	Process string // its name; "" if the kernel did not say
	PID     int
	// Limit is the cgroup whose limit was reached, "/" if the machine had no
	// memory left.
	Limit string
}

// Follow watches this machine's log from where it ends now.
func Follow(ctx context.Context, found func(Victim)) error {
	log, err := Open("/dev/kmsg")
	if err != nil {
		return err
	}
	return Watch(ctx, log, found)
}

// recordSize is the most that the kernel gives in one read.
const recordSize = 8192

// Open opens the kernel's log at its end. Who must not read it gets fs.ErrPermission.
func Open(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open the kernel's log: %w", err)
	}
	if _, err := f.Seek(0, io.SeekEnd); err != nil {
		return nil, errors.Join(fmt.Errorf("find the end of the kernel's log: %w", err), f.Close())
	}
	return f, nil
}

// Watch reads records, one with each read, and calls found for every victim until the
// context ends or reading fails. It closes the log.
func Watch(ctx context.Context, log io.ReadCloser, found func(Victim)) error {
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		log.Close() // ends the read
		close(closed)
	})
	defer func() {
		if stop() {
			log.Close()
		} else {
			<-closed
		}
	}()
	s := scanner{}
	record := make([]byte, recordSize)
	for {
		n, err := log.Read(record)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, syscall.EPIPE): // the kernel wrote over what was not read yet
			continue
		case err != nil:
			return fmt.Errorf("read the kernel's log: %w", err)
		}
		if v, ok := s.take(message(string(record[:n]))); ok {
			found(v)
		}
	}
}

// message is the text of a record: PRIORITY,NUMBER,TIME,FLAGS;TEXT, and lines of its
// properties.
func message(record string) string {
	_, text, _ := strings.Cut(record, ";")
	text, _, _ = strings.Cut(text, "\n")
	return text
}

// The kernel's lines. Since 5.0 one line says everything where a limit was reached;
// before, one tells the limit. The last line is there in all versions.
var (
	summary = regexp.MustCompile(`oom-kill:constraint=.*,oom_memcg=(.*),task_memcg=.*,task=(.*),pid=([0-9]+),uid=`)
	limit   = regexp.MustCompile(`Task in .* killed as a result of limit of (.*)`)
	killed  = regexp.MustCompile(`Killed process ([0-9]+) \((.+)\)`)
)

// scanner puts the lines about one victim together.
type scanner struct {
	open   bool // the kernel has begun to tell of one
	victim Victim
}

// take takes a line, and returns a victim with the last one about it.
func (s *scanner) take(line string) (Victim, bool) {
	if !s.open {
		s.open, s.victim = strings.Contains(line, "invoked oom-killer:"), Victim{Limit: "/"}
		return Victim{}, false
	}
	if m := summary.FindStringSubmatch(line); m != nil {
		return s.end(m[1], m[2], m[3])
	}
	if m := limit.FindStringSubmatch(line); m != nil {
		s.victim.Limit = m[1]
	}
	if m := killed.FindStringSubmatch(line); m != nil {
		return s.end(s.victim.Limit, m[2], m[1])
	}
	return Victim{}, false
}

func (s *scanner) end(limit, process, pid string) (Victim, bool) {
	s.open = false
	n, _ := strconv.Atoi(pid) // digits; too many of them are none that anybody has
	return Victim{Process: process, PID: n, Limit: limit}, true
}
