package checkpoint

import "time"

// When what has changed is written. Much that changes together is written
// together, since a flash card wears with every write.
const (
	quiet = time.Second      // after the last change of what matters …
	most  = 10 * time.Second // … and no later than this after the first
	// lazily is when the rest is: what Pods say of themselves, renewed tokens.
	lazily = 5 * time.Minute
	// scrubbing is when a file is written anew that holds a former Secret.
	scrubbing = time.Hour
	// again is when writing is tried again that failed.
	again = time.Minute
)

// schedule says when to write. Its zero value has nothing to.
type schedule struct {
	first, last time.Time // of the changes that matter
	lazy        time.Time // the first of the others
	scrub       time.Time // when the file is to be written anew
	notBefore   time.Time // after a failure
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
		s.first = s.first.Add(-most)
	}
	if !s.lazy.IsZero() {
		s.lazy = s.lazy.Add(-lazily)
	}
}

// next is when to write; zero is never.
func (s *schedule) next() time.Time {
	due := s.scrub
	if !s.first.IsZero() {
		due = earliest(due, earliest(s.last.Add(quiet), s.first.Add(most)))
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
func (s *schedule) written(anew bool) schedule {
	if anew {
		return schedule{}
	}
	return schedule{scrub: s.scrub}
}

// failed notes that it could not be.
func (s *schedule) failed(now time.Time) {
	s.note(true, now)
	s.notBefore = now.Add(again)
}
