package checkpoint

import "time"

// When what has changed is written. Much that changes together is written
// together, since a flash card wears with every write.
const (
	quiet = time.Second      // after the last change of what matters …
	most  = 10 * time.Second // … and no later than this after the first
	// Where changes never end, writes get rarer, down to one in slowest; whatever
	// the pace, the server's absence and the node's end write at once. After
	// rested without one they are as prompt as at first.
	slowest = time.Minute
	rested  = 10 * time.Minute
	// lazily is when the rest is: what Pods say of themselves, renewed tokens.
	lazily = 5 * time.Minute
	// scrubbing is when a file is written anew that holds a former Secret.
	scrubbing = time.Hour
	// again is when writing is tried again that failed.
	again = time.Minute
)

// schedule says when to write. Its zero value has nothing to.
type schedule struct {
	first, last time.Time     // of the changes that matter
	lazy        time.Time     // the first of the others
	scrub       time.Time     // when the file is to be written anew
	wrote       time.Time     // when what mattered was last written
	pace        time.Duration // not again before that
	notBefore   time.Time     // after a failure
}

func (s *schedule) note(urgent bool, now time.Time) {
	switch {
	case urgent && s.first.IsZero():
		s.first, s.last = now, now
	case urgent:
		s.last = now
	case s.lazy.IsZero():
		s.lazy = now
	}
}

func (s *schedule) noteScrub(now time.Time) {
	if s.scrub.IsZero() {
		s.scrub = now.Add(scrubbing)
	}
}

// hurry has what waits written at once.
func (s *schedule) hurry() {
	if !s.first.IsZero() {
		s.first, s.pace = s.first.Add(-most), 0
	}
	if !s.lazy.IsZero() {
		s.lazy = s.lazy.Add(-lazily)
	}
}

// next is when to write; zero is never.
func (s *schedule) next() time.Time {
	due := s.scrub
	if !s.first.IsZero() {
		urgent := earliest(s.last.Add(quiet), s.first.Add(most))
		if paced := s.wrote.Add(s.pace); urgent.Before(paced) {
			urgent = paced
		}
		due = earliest(due, urgent)
	}
	if !s.lazy.IsZero() {
		due = earliest(due, s.lazy.Add(lazily))
	}
	if !due.IsZero() && due.Before(s.notBefore) {
		return s.notBefore
	}
	return due
}

// scrubs says whether the file is to be written anew now.
func (s *schedule) scrubs(now time.Time) bool { return !s.scrub.IsZero() && !now.Before(s.scrub) }

// written is what remains to be done once all is, in a new file or in the present
// one.
func (s *schedule) written(anew bool, now time.Time) schedule {
	left := schedule{scrub: s.scrub, wrote: s.wrote, pace: s.pace}
	if anew {
		left.scrub = time.Time{}
	}
	switch {
	case s.first.IsZero():
	case now.Sub(s.wrote) > rested:
		left.wrote, left.pace = now, quiet
	default:
		left.wrote, left.pace = now, min(2*max(s.pace, quiet), slowest)
	}
	return left
}

// failed notes that it could not be.
func (s *schedule) failed(now time.Time) {
	s.note(true, now)
	s.notBefore = now.Add(again)
}
