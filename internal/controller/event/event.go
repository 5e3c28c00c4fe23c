// Package event deletes Events that nobody has repeated for an hour, as
// upstream's storage does.
//
// New returns the controller; left is its plan. The invariant: an Event lives an
// hour after it was last written, and never longer than an hour after this
// server first saw it so, whatever the clocks said. It never looks at what an
// Event is about.
package event

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skiff-sh/skiff/internal/api"
	"github.com/skiff-sh/skiff/internal/controller"
	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
)

// lifetime is upstream's default for --event-ttl.
const lifetime = time.Hour

// sweepEvery is how exactly it is kept: Events go together, in few commits.
const sweepEvery = time.Minute

// New returns the controller. It has one key, since one deadline serves all.
func New(env controller.Environment) controller.Runner {
	s := &sweeper{env: env, seen: map[types.UID]sight{}}
	return controller.Controller[struct{}]{
		Name: "event-expiry-controller",
		Sources: []controller.Source[struct{}]{{Kind: kind.Event, Keys: func(e state.Event) []struct{} {
			if s.note(e) {
				return []struct{}{{}}
			}
			return nil
		}}},
		Workers:   1,
		Reconcile: s.sweep,
	}
}

// sight is when an Event came to its present form before this server's eyes, and
// when it is to go.
type sight struct {
	revision string
	ends     time.Time
}

type sweeper struct {
	env controller.Environment

	mu   sync.Mutex
	seen map[types.UID]sight
}

// note remembers an Event, and says whether it is the first: then the deadline
// must be set.
func (s *sweeper) note(e state.Event) (first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.Type == state.Deleted {
		delete(s.seen, e.Object.GetUID())
		return false
	}
	if s.seen[e.Object.GetUID()].revision == e.Object.GetResourceVersion() {
		return false
	}
	first = len(s.seen) == 0
	s.seen[e.Object.GetUID()] = sight{
		revision: e.Object.GetResourceVersion(),
		ends:     time.Now().Add(left(e.Object.(*corev1.Event), time.Now())),
	}
	return first
}

// left returns how long an Event has to live.
func left(e *corev1.Event, now time.Time) time.Duration {
	last := e.CreationTimestamp.Time
	for _, t := range []time.Time{e.FirstTimestamp.Time, e.LastTimestamp.Time, e.EventTime.Time} {
		if t.After(last) {
			last = t
		}
	}
	if e.Series != nil && e.Series.LastObservedTime.After(last) {
		last = e.Series.LastObservedTime.Time
	}
	return max(0, min(lifetime, last.Add(lifetime).Sub(now)))
}

// sweep deletes what has lived long enough, and comes again for the next.
func (s *sweeper) sweep(ctx context.Context, _ struct{}) (time.Duration, error) {
	now := time.Now()
	var next time.Duration
	for _, e := range state.List[*corev1.Event](s.env.State, kind.Event, state.Interest{}) {
		s.mu.Lock()
		sight, known := s.seen[e.UID]
		s.mu.Unlock()
		if !known {
			continue // its event is on its way
		}
		if wait := sight.ends.Sub(now); wait > 0 {
			if next == 0 || wait < next {
				next = wait
			}
			continue
		}
		if err := s.delete(ctx, e); err != nil {
			return 0, err
		}
	}
	if next == 0 && s.any() {
		return sweepEvery, nil
	}
	if next > 0 {
		next = max(next, sweepEvery)
	}
	return next, nil
}

func (s *sweeper) any() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.seen) > 0
}

func (s *sweeper) delete(ctx context.Context, e *corev1.Event) error {
	_, _, err := s.env.API.Delete(ctx, api.Request{
		User: controller.User("event-expiry-controller"), FieldManager: controller.FieldManager,
		Kind: kind.Event, Namespace: e.Namespace, Name: e.Name,
	}, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &e.UID, ResourceVersion: &e.ResourceVersion}})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}
