// Package eventttl deletes Events an hour after they last changed.
//
// New returns the controller. The invariant: an Event is there for as long as
// upstream's default (--event-ttl) keeps one. Deletions are lazy writes like the
// Events themselves. It looks at nothing but Events.
package eventttl

import (
	"context"
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

const name = "event-ttl-controller"

// life is how long an Event stays after its last change.
const life = time.Hour

// New returns the controller.
func New(env controller.Environment) controller.Runner {
	return controller.Controller[types.NamespacedName]{
		Name:    name,
		Workers: 1,
		Sources: []controller.Source[types.NamespacedName]{{Kind: kind.Event, Keys: appeared}},
		Reconcile: func(ctx context.Context, key types.NamespacedName) (time.Duration, error) {
			event, ok := state.Get[*corev1.Event](env.State, kind.Event, key.Namespace, key.Name)
			if !ok {
				return 0, nil
			}
			if left := time.Until(lastWord(event).Add(life)); left > 0 {
				return min(left, life), nil // a clock that was set back must not keep it for ever
			}
			_, _, err := env.API.Delete(ctx, api.Request{
				User: controller.User(name), FieldManager: name,
				Kind: kind.Event, Namespace: key.Namespace, Name: key.Name,
			}, metav1.DeleteOptions{})
			if apierrors.IsNotFound(err) {
				err = nil
			}
			return 0, err
		},
	}
}

// appeared returns the keys of new Events: the deadline of one that only
// counts on is looked at again when it has come.
func appeared(e state.Event) []types.NamespacedName {
	if e.Type != state.Added {
		return nil
	}
	return []types.NamespacedName{controller.Key(e.Object)}
}

// lastWord is when an Event last changed, by whichever of its times is set.
func lastWord(e *corev1.Event) time.Time {
	last := e.CreationTimestamp.Time
	times := []time.Time{e.LastTimestamp.Time, e.EventTime.Time}
	if e.Series != nil {
		times = append(times, e.Series.LastObservedTime.Time)
	}
	for _, t := range times {
		if t.After(last) {
			last = t
		}
	}
	return last
}
