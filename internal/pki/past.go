package pki

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/moby/sys/atomicwriter"
)

const (
	day = 24 * time.Hour
	// jump is how far time must be off for others to be told.
	jump = time.Minute
)

// Past is the latest time that is known to be past. It is kept in a file, which
// is written when what it says is a day old: a machine that starts without a right
// clock then knows the day, and an SD card bears it. It never goes back, but by a
// server's own clock that something keeps right. A nil Past knows nothing and
// learns nothing. It is safe for concurrent use.
type Past struct {
	file  string
	own   bool      // this machine's clock is the cluster's
	until time.Time // when the authority ends; zero: that is not known

	mu     sync.Mutex    // guards what follows
	latest time.Time     // was the time at the least, …
	at     time.Time     // … when this machine's monotonic clock was here
	stored time.Time     // what the file says
	jumped chan struct{} // closed at the next jump
}

// OpenPast reads what is known from a file, which need not be there. One that
// says no time, as a power cut may leave it, is as good as none.
func OpenPast(file string) (*Past, error) {
	p := &Past{file: file, at: time.Now(), jumped: make(chan struct{})}
	text, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the latest known time: %w", err)
	}
	if t, err := time.Parse(time.RFC3339, strings.TrimSpace(string(text))); err == nil {
		p.latest, p.stored = t, t
	}
	return p, nil
}

// Bound says when the authority ends. What a server's own clock shows after that
// is not believed: at such a time no certificate is good for anything, so it would
// be of no use even if right. Bound is called before others use p.
func (p *Past) Bound(end time.Time) {
	if p != nil {
		p.until = end
	}
}

// Time returns the latest time known to be past.
func (p *Past) Time() time.Time {
	if p == nil {
		return time.Time{}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now()
}

// now goes on with what was known; p.mu is held.
func (p *Past) now() time.Time {
	if p.latest.IsZero() {
		return p.latest
	}
	return p.latest.Add(time.Since(p.at))
}

// Hear notes the time that a server told over a connection whose certificate ends
// at end. A server that tells a time at which its own certificate has ended is
// wrong about one of them: that is not noted.
func (p *Past) Hear(told, end time.Time) {
	if p == nil || told.After(end) {
		return
	}
	p.note(told)
}

// show notes what a server's own clock shows.
func (p *Past) show(t time.Time) {
	if p != nil && p.own && p.trusts(t) {
		p.note(t)
	}
}

// trusts says whether a machine's clock that shows t counts, nothing keeping it.
func (p *Past) trusts(t time.Time) bool {
	return p == nil || p.own && (p.until.IsZero() || !t.After(p.until))
}

// note takes a time that is past.
func (p *Past) note(t time.Time) {
	p.mu.Lock()
	ahead := t.Sub(p.now())
	if ahead > 0 {
		p.latest, p.at = t.Round(0), time.Now()
	}
	if ahead > jump {
		p.leap()
	}
	t = p.now()
	store := t.Sub(p.stored) >= day
	if store {
		p.stored = t // also where that fails: the next attempt is tomorrow's
	}
	p.mu.Unlock()
	if store {
		_ = p.write(t) // what is not kept is told again
	}
}

// leap tells that time is another; p.mu is held.
func (p *Past) leap() {
	close(p.jumped)
	p.jumped = make(chan struct{})
}

func (p *Past) jumps() <-chan struct{} {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.jumped
}

// Jump wakes those who wait for Clock.Jumped: this machine's clock was set.
func (p *Past) Jump() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.leap()
}

// Save writes what is known now, whenever the file was written last.
func (p *Past) Save() error {
	p.mu.Lock()
	t := p.now()
	if t.IsZero() || t.Sub(p.stored) < time.Hour {
		p.mu.Unlock()
		return nil
	}
	p.stored = t
	p.mu.Unlock()
	return p.write(t)
}

func (p *Past) write(t time.Time) error {
	if err := os.MkdirAll(filepath.Dir(p.file), 0o755); err != nil {
		return fmt.Errorf("keep the latest known time: %w", err)
	}
	if err := atomicwriter.WriteFile(p.file, []byte(t.UTC().Format(time.RFC3339)+"\n"), 0o600); err != nil {
		return fmt.Errorf("keep the latest known time: %w", err)
	}
	return nil
}
