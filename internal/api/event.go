package api

import (
	"context"
	"fmt"
	"sync"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/auth"
	"github.com/skiff-sh/skiff/internal/kind"
)

// maxRemembered bounds the events whose repetition a Recorder still counts.
const maxRemembered = 4096

// Recorder writes the Events of one component. The same event again raises the
// count of the first, as upstream's correlator does. It is safe for concurrent
// use.
type Recorder struct {
	api       *API
	user      auth.User
	component string

	mu    sync.Mutex
	known map[eventKey]string // name of the Event
}

type eventKey struct {
	namespace, kind, name string
	uid                   string
	eventtype, reason     string
	message               string
}

// NewRecorder returns a recorder for a component such as "replicaset-controller".
func (a *API) NewRecorder(component string, user auth.User) *Recorder {
	return &Recorder{api: a, user: user, component: component, known: map[eventKey]string{}}
}

// Event records that something happened to obj. It never fails the caller: what
// cannot be written is logged. Events are lazy writes and cost no sync.
func (r *Recorder) Event(ctx context.Context, k *kind.Kind, obj kind.Object, eventtype, reason, format string, args ...any) {
	message := fmt.Sprintf(format, args...)
	if len(message) > 1024 {
		message = message[:1021] + "..."
	}
	namespace := obj.GetNamespace()
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	key := eventKey{
		namespace: namespace, kind: k.Kind, name: obj.GetName(), uid: string(obj.GetUID()),
		eventtype: eventtype, reason: reason, message: message,
	}
	if r.repeat(ctx, key) {
		return
	}
	if err := r.create(ctx, key, k, obj); err != nil {
		r.api.log.Warn("event not written", zap.String("reason", reason), zap.String("message", message), zap.Error(err))
	}
}

// repeat raises the count of the event if it was recorded before.
func (r *Recorder) repeat(ctx context.Context, key eventKey) bool {
	r.mu.Lock()
	name, ok := r.known[key]
	r.mu.Unlock()
	if !ok {
		return false
	}
	_, err := r.api.Modify(ctx, r.request(key.namespace, name), func(obj kind.Object) error {
		e := obj.(*corev1.Event)
		e.Count++
		e.LastTimestamp = r.api.now()
		return nil
	})
	return err == nil // one that expired is written anew
}

func (r *Recorder) create(ctx context.Context, key eventKey, k *kind.Kind, obj kind.Object) error {
	now := r.api.now()
	name := fmt.Sprintf("%s.%x", key.name, r.api.clock().UnixNano())
	_, err := r.api.Create(ctx, r.request(key.namespace, ""), &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: key.namespace},
		InvolvedObject: corev1.ObjectReference{
			APIVersion: k.Resource.GroupVersion().String(), Kind: k.Kind,
			Namespace: obj.GetNamespace(), Name: obj.GetName(), UID: obj.GetUID(),
			ResourceVersion: obj.GetResourceVersion(),
		},
		Type: key.eventtype, Reason: key.reason, Message: key.message,
		Source:         corev1.EventSource{Component: r.component},
		FirstTimestamp: now, LastTimestamp: now, Count: 1,
		ReportingController: r.component,
	})
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.known) >= maxRemembered {
		clear(r.known)
	}
	r.known[key] = name
	return nil
}

func (r *Recorder) request(namespace, name string) Request {
	return Request{User: r.user, FieldManager: r.component, Kind: kind.Event, Namespace: namespace, Name: name}
}
