package api

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skiff-sh/skiff/internal/auth"
	"github.com/skiff-sh/skiff/internal/kind"
)

// The bounds of client-go's event correlator, which upstream's components use.
const (
	mostSimilar  = 10               // from the tenth message of a series on, one Event stands for all
	similarFor   = 10 * time.Minute // after a pause as long, a series begins anew
	eventBurst   = 25               // Events about one object
	eventRefill  = 5 * time.Minute  // until another one may be written
	maxKnown     = 4096             // what is remembered of each
	maxEventText = 1024
)

// Recorder writes the Events of one component. The same event again raises the
// count of the first; many that differ in their message alone become one; and
// an object that has more to tell than a person would read is cut short, all as
// upstream's correlator does. It is safe for concurrent use.
type Recorder struct {
	api       *API
	user      auth.User
	component string

	mu      sync.Mutex
	known   map[eventKey]string   // name of the Event
	series  map[eventKey]*similar // by key without message
	budgets map[eventKey]*budget  // by object
}

// eventKey is what makes events the same.
type eventKey struct {
	namespace, kind, name string
	uid                   types.UID
	eventtype, reason     string
	message               string
}

// similar are the messages of events that differ in nothing else.
type similar struct {
	messages map[string]struct{}
	last     time.Time
}

// budget is how many Events about one object may still be written.
type budget struct {
	left  float64
	since time.Time
}

// NewRecorder returns a recorder for a component such as "replicaset-controller".
func (a *API) NewRecorder(component string, user auth.User) *Recorder {
	return &Recorder{
		api: a, user: user, component: component,
		known: map[eventKey]string{}, series: map[eventKey]*similar{}, budgets: map[eventKey]*budget{},
	}
}

// Event records that something happened to obj. It never fails the caller: what
// cannot be written is logged. Events are lazy writes and cost no sync.
func (r *Recorder) Event(ctx context.Context, k *kind.Kind, obj kind.Object, eventtype, reason, format string, args ...any) {
	message := fmt.Sprintf(format, args...)
	if len(message) > maxEventText {
		message = strings.ToValidUTF8(message[:maxEventText-4], "") + " ..."
	}
	namespace := obj.GetNamespace()
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	name, key, message, ok := r.correlate(eventKey{
		namespace: namespace, kind: k.Kind, name: obj.GetName(), uid: obj.GetUID(),
		eventtype: eventtype, reason: reason, message: message,
	})
	if !ok || name != "" && r.repeat(ctx, namespace, name, message) {
		return
	}
	err := r.create(ctx, key, message, k, obj)
	if err != nil && !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) && ctx.Err() == nil {
		r.api.log.Warn("event not written", zap.String("reason", reason), zap.String("message", message), zap.Error(err))
	}
}

// correlate returns the Event that the new one repeats ("": none), under which
// key it is known, and what it is to say. ok is false when the object has had
// its share.
func (r *Recorder) correlate(key eventKey) (name string, known eventKey, message string, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.api.clock()
	if message = key.message; r.isSimilar(key, now) {
		key.message = ""
		message = "(combined from similar events): " + message
	}
	return r.known[key], key, message, r.spend(key, now)
}

// isSimilar notes a message and says whether the series has become so long that
// one Event stands for it. The caller holds mu.
func (r *Recorder) isSimilar(key eventKey, now time.Time) bool {
	message := key.message
	key.message = ""
	s := r.series[key]
	if s == nil || now.Sub(s.last) > similarFor {
		bound(r.series)
		s = &similar{messages: map[string]struct{}{}}
		r.series[key] = s
	}
	s.last = now
	s.messages[message] = struct{}{}
	if len(s.messages) < mostSimilar {
		return false
	}
	for m := range s.messages { // room for the next one, as upstream
		delete(s.messages, m)
		break
	}
	return true
}

// spend takes one from the object's budget. The caller holds mu.
func (r *Recorder) spend(key eventKey, now time.Time) bool {
	key.eventtype, key.reason, key.message = "", "", ""
	b := r.budgets[key]
	if b == nil {
		bound(r.budgets)
		b = &budget{left: eventBurst, since: now}
		r.budgets[key] = b
	}
	b.left = min(eventBurst, b.left+float64(now.Sub(b.since))/float64(eventRefill))
	b.since = now
	if b.left < 1 {
		return false
	}
	b.left--
	return true
}

// bound makes room in a map that has grown too large.
func bound[V any](m map[eventKey]V) {
	if len(m) < maxKnown {
		return
	}
	for key := range m {
		delete(m, key)
		if len(m) < maxKnown/2 {
			return
		}
	}
}

// repeat raises the count of an event that was recorded before. One that has
// expired is written anew.
func (r *Recorder) repeat(ctx context.Context, namespace, name, message string) bool {
	_, err := r.api.Modify(ctx, r.request(namespace, name), func(obj kind.Object) error {
		e := obj.(*corev1.Event)
		e.Count++
		e.LastTimestamp = r.api.now()
		e.Message = message
		return nil
	})
	return err == nil
}

func (r *Recorder) create(ctx context.Context, key eventKey, message string, k *kind.Kind, obj kind.Object) error {
	now := r.api.now()
	stamp := r.api.clock().UnixNano()
	for {
		name := fmt.Sprintf("%s.%x", key.name, stamp)
		_, err := r.api.Create(ctx, r.request(key.namespace, ""), &corev1.Event{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: key.namespace},
			InvolvedObject: corev1.ObjectReference{
				APIVersion: k.Resource.GroupVersion().String(), Kind: k.Kind,
				Namespace: obj.GetNamespace(), Name: obj.GetName(), UID: obj.GetUID(),
				ResourceVersion: obj.GetResourceVersion(),
			},
			Type: key.eventtype, Reason: key.reason, Message: message,
			Source:         corev1.EventSource{Component: r.component},
			FirstTimestamp: now, LastTimestamp: now, Count: 1,
			ReportingController: r.component,
		})
		if apierrors.IsAlreadyExists(err) { // two at the same moment
			stamp++
			continue
		}
		if err == nil {
			r.remember(key, name)
		}
		return err
	}
}

func (r *Recorder) remember(key eventKey, name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	bound(r.known)
	r.known[key] = name
}

func (r *Recorder) request(namespace, name string) Request {
	return Request{User: r.user, FieldManager: r.component, Kind: kind.Event, Namespace: namespace, Name: name}
}
