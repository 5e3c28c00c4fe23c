package agent

import (
	"encoding/json"
	"errors"
	"net/url"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	events "k8s.io/client-go/tools/record"

	"github.com/skiff-sh/skiff/internal/uplink"
)

// sink writes events with times of the servers' clock: those of another years away
// would be shown in a senseless order, and kept for years. While no server answers
// they wait, a thousand at most, and those that are too many are lost.
type sink struct {
	events.EventSink
	time *uplink.Time
	done <-chan struct{} // ends all waiting
}

// await does what fails as long as no server answers until one does.
func (s sink) await(do func() (*corev1.Event, error)) (*corev1.Event, error) {
	for delay := newRetry(time.Second, 10*time.Second); ; {
		e, err := do()
		if !errors.As(err, new(*url.Error)) {
			return e, err
		}
		select {
		case <-s.done:
			return nil, err
		case <-time.After(delay.step()):
		}
	}
}

// Create implements record.EventSink. An event that has been counted on has its
// first time from the API.
func (s sink) Create(e *corev1.Event) (*corev1.Event, error) {
	e = e.DeepCopy()
	if e.FirstTimestamp.Equal(&e.LastTimestamp) {
		e.FirstTimestamp = metav1.NewTime(s.time.Theirs(e.FirstTimestamp.Time))
	}
	e.LastTimestamp = metav1.NewTime(s.time.Theirs(e.LastTimestamp.Time))
	return s.await(func() (*corev1.Event, error) { return s.EventSink.Create(e) })
}

// Patch implements record.EventSink. The only time in the patch of an event is
// its last.
func (s sink) Patch(e *corev1.Event, patch []byte) (*corev1.Event, error) {
	var fields map[string]any
	if err := json.Unmarshal(patch, &fields); err != nil {
		return nil, err
	}
	if text, ok := fields["lastTimestamp"].(string); ok {
		last, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return nil, err
		}
		fields["lastTimestamp"] = metav1.NewTime(s.time.Theirs(last))
		if patch, err = json.Marshal(fields); err != nil {
			return nil, err
		}
	}
	return s.await(func() (*corev1.Event, error) { return s.EventSink.Patch(e, patch) })
}
