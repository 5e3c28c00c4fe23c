package load

import (
	"errors"
	"fmt"
	"time"

	"github.com/skiff-sh/skiff/internal/store"
)

// Ack is one acknowledged commit: the writer's next. The times are the guest's,
// since any moment before.
type Ack struct {
	Writer     int
	Begin, End time.Duration
	Revisions  []store.Revision
}

// Model knows what may be found after a cut.
type Model struct {
	versions map[store.Key][]version // the last ones of a key, what must be there first
	lazy     map[store.Key]bool      // was ever written lazily
	used     map[store.Revision]bool // by acknowledged operations, and by records found
	last     store.Revision          // the highest of these

	// Of one boot.
	plan    Plan
	writers []*Writer // nil before the load has begun
	opened  store.Revision
	waiting []wait
	closed  bool
	known   bool // Found has been called

	// Commits and Operations were acknowledged.
	Commits, Operations int
}

// version is a state that a key had; its digest may be Absent.
type version struct {
	Held
	end time.Duration // when it was acknowledged
}

// wait is a lazy version on its way to the disk by the window's end alone.
type wait struct {
	key   store.Key
	held  Held
	due   time.Duration
	later int // commits begun after due
}

// NewModel returns the model of an empty store.
func NewModel() *Model {
	return &Model{
		versions: map[store.Key][]version{}, lazy: map[store.Key]bool{}, used: map[store.Revision]bool{},
	}
}

// ErrStray says that the guest does something else than its plan: nothing can
// be told about the store.
var ErrStray = errors.New("the guest is not doing what was planned")

// Start begins a boot's load after Found.
func (m *Model) Start(plan Plan) {
	m.plan, m.waiting, m.writers, m.closed = plan, nil, nil, false
	there := map[store.Key]Held{}
	for key, versions := range m.versions {
		if versions[0].Digest != Absent {
			there[key] = versions[0].Held
		}
	}
	for id := range plan.Writers {
		m.writers = append(m.writers, NewWriter(plan, id, there))
	}
}

// Ack takes an acknowledgement.
func (m *Model) Ack(a Ack) error {
	if a.Writer < 0 || a.Writer >= len(m.writers) {
		return fmt.Errorf("%w: an acknowledgement for writer %d, who does not write", ErrStray, a.Writer)
	}
	w := m.writers[a.Writer]
	ops, lazy := w.Next()
	if len(ops) != len(a.Revisions) {
		return fmt.Errorf("%w: writer %d has %d revisions for %d operations", ErrStray, a.Writer, len(a.Revisions), len(ops))
	}
	m.Commits++
	m.pass(a)
	for i, op := range ops {
		if op.Action == store.Check {
			continue
		}
		m.Operations++
		if err := m.use(op.Key, a.Revisions[i]); err != nil {
			return err
		}
		v := version{Held{Absent, a.Revisions[i]}, a.End}
		if op.Action == store.Put {
			v.Digest = DigestOf(op.Value)
		}
		if !lazy {
			m.versions[op.Key] = []version{v}
			continue
		}
		m.lazy[op.Key] = true
		if m.versions[op.Key] == nil {
			m.versions[op.Key] = []version{{}}
		}
		m.versions[op.Key] = append(m.versions[op.Key], v)
		m.waiting = append(m.waiting, wait{key: op.Key, held: v.Held, due: a.End + m.plan.Window + patience})
	}
	if !lazy {
		m.carried(w, ops, a.Begin)
	}
	w.Done(ops, a.Revisions)
	return nil
}

// Close takes word that the store was closed: all that was acknowledged is on
// disk, and nothing else is under way.
func (m *Model) Close() {
	m.closed = true
	m.writers, m.waiting = nil, nil
	for key, versions := range m.versions {
		m.versions[key] = versions[len(versions)-1:]
	}
}

// Known reports whether the store was found at least once.
func (m *Model) Known() bool { return m.known }

// patience is what a transaction at a window's end may take, and enough is how
// many commits the same committer must have begun and ended since: time alone
// passes also while the whole machine stands still.
const (
	patience = time.Second
	enough   = 30
)

// pass notes that a commit was begun: lazy writes whose window is long over
// are on disk.
func (m *Model) pass(a Ack) {
	kept := m.waiting[:0]
	for _, w := range m.waiting {
		if a.Begin > w.due {
			w.later++
		}
		if w.later < enough {
			kept = append(kept, w)
		} else {
			m.onDisk(w.key, func(v version) bool { return v.Held == w.held })
		}
	}
	m.waiting = kept
}

// carried notes that a durable commit was begun at a time and is on disk: with
// it came its writer's lazy writes that had waited for half their window, but
// for those that it replaced.
func (m *Model) carried(w *Writer, ops []store.Op, begin time.Duration) {
	replaced := map[store.Key]bool{}
	for _, op := range ops {
		replaced[op.Key] = true
	}
	for key := range m.lazy {
		if w.owns(key) && !replaced[key] {
			m.onDisk(key, func(v version) bool { return v.end > 0 && v.end+m.plan.Window/2 <= begin })
		}
	}
}

// onDisk forgets what a key was before the newest version that is on disk.
func (m *Model) onDisk(key store.Key, is func(version) bool) {
	versions := m.versions[key]
	for i := len(versions) - 1; i > 0; i-- {
		if is(versions[i]) {
			m.versions[key] = versions[i:]
			return
		}
	}
}

// use notes a revision as handed out.
func (m *Model) use(key store.Key, revision store.Revision) error {
	if revision <= m.opened {
		return fmt.Errorf("%s got revision %d, the store had opened at %d", key, revision, m.opened)
	}
	if m.used[revision] {
		return fmt.Errorf("%s got revision %d, which was handed out before", key, revision)
	}
	m.used[revision] = true
	m.last = max(m.last, revision)
	return nil
}
