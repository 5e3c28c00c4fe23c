package stream

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// restWatch is how long a log that was just written to is left alone. One that nobody
// writes to costs nothing.
const restWatch = 10 * time.Second

// RotatorConfig is what a Rotator needs.
type RotatorConfig struct {
	// Reopen makes the writer of a container's log open its path anew.
	Reopen   func(ctx context.Context, containerID string) error
	Log      *zap.Logger
	MaxSize  int64 // bytes from which on a log is put aside
	MaxFiles int   // that are kept of a container, the one being written among them
	// Rest is optional: ten seconds.
	Rest time.Duration
}

// Rotator keeps the logs of running containers from growing without end. It
// waits for the first write to a log, looks at its size, and looks again some
// seconds later only if there was more.
type Rotator struct {
	RotatorConfig
	wake chan struct{}

	mu   sync.Mutex
	logs map[string]*rotated // by container ID
}

type rotated struct {
	path string
	wd   int       // armed watch, 0 if none
	next time.Time // when to arm it; zero if armed
}

// NewRotator makes a Rotator; Run does its work.
func NewRotator(c RotatorConfig) *Rotator {
	if c.Rest == 0 {
		c.Rest = restWatch
	}
	return &Rotator{RotatorConfig: c, wake: make(chan struct{}, 1), logs: map[string]*rotated{}}
}

// Add begins to watch the log of a running container.
func (r *Rotator) Add(id, path string) {
	r.mu.Lock()
	r.logs[id] = &rotated{path: path, next: time.Now()}
	r.mu.Unlock()
	r.poke()
}

// Remove ends it. One that is not watched is no error.
func (r *Rotator) Remove(id string) {
	r.mu.Lock()
	delete(r.logs, id) // its watch fires at most once more
	r.mu.Unlock()
}

func (r *Rotator) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Run rotates logs until the context ends.
func (r *Rotator) Run(ctx context.Context) error {
	file, err := newInotify()
	if err != nil {
		return err
	}
	var reader sync.WaitGroup
	reader.Go(func() { r.read(file) })
	defer reader.Wait()
	defer file.Close()
	for {
		next := r.arm(ctx, file, time.Now())
		var due <-chan time.Time
		var timer *time.Timer
		if !next.IsZero() {
			timer = time.NewTimer(time.Until(next))
			due = timer.C
		}
		select {
		case <-ctx.Done():
			return nil
		case <-r.wake:
		case <-due:
		}
		if timer != nil {
			timer.Stop()
		}
	}
}

// read notes which watches fired: each does so once.
func (r *Rotator) read(file *os.File) {
	buf := make([]byte, 16<<10)
	for {
		n, err := file.Read(buf)
		if err != nil {
			return
		}
		fired := map[int]bool{}
		for at := 0; at+unix.SizeofInotifyEvent <= n; {
			wd := int(int32(binary.NativeEndian.Uint32(buf[at:])))
			mask := binary.NativeEndian.Uint32(buf[at+4:])
			if mask&unix.IN_IGNORED == 0 {
				fired[wd] = true
			}
			at += unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(buf[at+12:]))
		}
		r.mu.Lock()
		for _, l := range r.logs {
			if l.wd != 0 && fired[l.wd] {
				l.wd, l.next = 0, time.Now().Add(r.Rest)
			}
		}
		r.mu.Unlock()
		r.poke()
	}
}

// arm looks at the logs whose rest is over, rotates those that are too big and
// watches them again. It returns when the next rest ends.
func (r *Rotator) arm(ctx context.Context, file *os.File, now time.Time) time.Time {
	r.mu.Lock()
	var due []string
	var next time.Time
	for id, l := range r.logs {
		switch {
		case l.wd != 0:
		case !l.next.After(now):
			due = append(due, id)
		case next.IsZero() || l.next.Before(next):
			next = l.next
		}
	}
	r.mu.Unlock()
	for _, id := range due {
		if again := r.look(ctx, file, id); !again.IsZero() && (next.IsZero() || again.Before(next)) {
			next = again
		}
	}
	return next
}

// look rotates one log if need be and watches it; where it cannot, it returns
// when to try again.
func (r *Rotator) look(ctx context.Context, file *os.File, id string) time.Time {
	r.mu.Lock()
	l := r.logs[id]
	r.mu.Unlock()
	if l == nil {
		return time.Time{}
	}
	// Watch first: what is written while we look fires.
	wd, err := addWatch(file, l.path, unix.IN_MODIFY|unix.IN_ONESHOT)
	if err == nil {
		var info os.FileInfo
		if info, err = os.Stat(l.path); err == nil && info.Size() >= r.MaxSize {
			if err = r.rotate(ctx, id, l.path); err == nil {
				wd, err = addWatch(file, l.path, unix.IN_MODIFY|unix.IN_ONESHOT)
			}
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.Log.Debug("watch log", zap.String("path", l.path), zap.Error(err))
		l.wd, l.next = 0, time.Now().Add(r.Rest)
		return l.next
	}
	l.wd, l.next = wd, time.Time{}
	return time.Time{}
}

// rotate puts a log aside and has its writer begin a new one.
func (r *Rotator) rotate(ctx context.Context, id, path string) error {
	aside, err := asideName(path, time.Now())
	if err != nil {
		return err
	}
	if err := os.Rename(path, aside); err != nil {
		return fmt.Errorf("put log aside: %w", err)
	}
	if err := r.Reopen(ctx, id); err != nil {
		// The writer still holds the old file: give it its name back.
		if _, statErr := os.Stat(path); errors.Is(statErr, fs.ErrNotExist) {
			return errors.Join(fmt.Errorf("reopen log: %w", err), os.Rename(aside, path))
		}
		return fmt.Errorf("reopen log: %w", err)
	}
	return r.prune(path)
}

// asideFormat is the time in the names of logs put aside, which are in its order.
const asideFormat = "20060102-150405.000"

// asideName is where to put a log aside: behind the others, also when the clock
// was set back since.
func asideName(path string, now time.Time) (string, error) {
	old, err := aside(path)
	if err != nil {
		return "", err
	}
	if len(old) > 0 {
		_, text, _ := strings.Cut(old[len(old)-1], filepath.Base(path)+".")
		if last, err := time.Parse(asideFormat, text); err == nil && !now.After(last) {
			now = last.Add(time.Millisecond)
		}
	}
	return path + "." + now.UTC().Format(asideFormat), nil
}

// aside lists the files of a log that were put aside, the oldest first.
func aside(path string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("list logs: %w", err)
	}
	var old []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), filepath.Base(path)+".") {
			old = append(old, e.Name())
		}
	}
	slices.Sort(old)
	return old, nil
}

// prune deletes the oldest files of a log beyond those to keep.
func (r *Rotator) prune(path string) error {
	old, err := aside(path)
	if err != nil {
		return err
	}
	for len(old) > r.MaxFiles-1 {
		if err := os.Remove(filepath.Join(filepath.Dir(path), old[0])); err != nil {
			return fmt.Errorf("remove old log: %w", err)
		}
		old = old[1:]
	}
	return nil
}
