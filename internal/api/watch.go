package api

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
	"github.com/skiff-sh/skiff/internal/store"
)

// bookmarkInterval is how often a watch is told how far it has come.
const bookmarkInterval = time.Minute

// Event is what a watch tells. Object is shared and constant.
type Event struct {
	Type     watch.EventType // Added, Modified, Deleted or Bookmark
	Object   kind.Object
	Revision store.Revision
}

// Watch tells what happens to the objects it selects. Next is for one goroutine
// at a time; Stop may come from any.
type Watch struct {
	selected  *selected
	cursor    *state.Watch
	initial   []kind.Object
	skip      store.Revision // events up to here were not asked for
	listed    store.Revision // revision of the initial objects
	bookmarks bool
	endMark   bool // tell where the initial events end
	timer     *time.Timer
}

// Watch begins a watch where the options say: without a resourceVersion, or
// with "0", it first tells of all there is.
func (a *API) Watch(_ context.Context, req Request, options ListOptions) (*Watch, error) {
	defaultWatchOptions(&options)
	s, err := a.selects(&req, &options, true)
	if err != nil {
		return nil, err
	}
	rev, err := parseRevision(options.ResourceVersion)
	if err != nil {
		return nil, unknown(err)
	}
	w := &Watch{selected: s, bookmarks: options.AllowWatchBookmarks}
	if options.SendInitialEvents != nil && *options.SendInitialEvents {
		if err := a.notBefore(true, rev); err != nil {
			return nil, err
		}
		w.list(a.state)
		w.endMark = w.bookmarks
	} else if err := w.follow(a.state, rev); errors.Is(err, state.ErrExpired) {
		return nil, apierrors.NewResourceExpired(fmt.Sprintf("too old resource version: %d (%d)", rev, a.state.Oldest(req.Kind)))
	} else if err != nil {
		return nil, watchError(err)
	}
	if w.bookmarks {
		w.timer = time.NewTimer(bookmarkInterval)
	}
	return w, nil
}

// defaultWatchOptions has watches of any revision begin with all there is, as they
// did before clients could say so.
func defaultWatchOptions(o *ListOptions) {
	if o.SendInitialEvents == nil && o.ResourceVersionMatch == "" && (o.ResourceVersion == "" || o.ResourceVersion == "0") {
		o.SendInitialEvents = new(true)
		o.ResourceVersionMatch = metav1.ResourceVersionMatchNotOlderThan
	}
}

// list begins with all there is.
func (w *Watch) list(s *state.State) {
	snapshot, cursor := s.ListWatch(w.selected.kind, w.selected.in)
	w.cursor, w.listed = cursor, snapshot.Revision()
	snapshot.Ascend(w.selected.in, "", func(obj kind.Object) bool {
		if w.selected.matches(obj) {
			w.initial = append(w.initial, obj)
		}
		return true
	})
}

// follow begins behind a revision, 0 being now. One that is still to come
// means to pass over all until then.
func (w *Watch) follow(s *state.State, rev store.Revision) (err error) {
	current := s.Revision()
	if rev > current {
		w.skip = rev
	}
	if rev == 0 || rev > current {
		rev = current
	}
	w.cursor, err = s.Watch(w.selected.kind, w.selected.in, rev)
	return err
}

// Next returns the next event and waits for it as long as ctx allows. Errors:
// an Expired status when the watch fell behind and must list again, the
// context's error, ServiceUnavailable when the server stops.
func (w *Watch) Next(ctx context.Context) (Event, error) {
	if event, ok := w.nextInitial(); ok {
		return event, nil
	}
	for {
		event, ok, err := w.poll()
		if ok || err != nil {
			return event, err
		}
		var due <-chan time.Time
		if w.timer != nil {
			due = w.timer.C
		}
		select {
		case <-w.cursor.Ready():
		case <-due:
			w.timer.Reset(bookmarkInterval)
			if rev := w.cursor.Revision(); rev >= w.skip {
				return w.bookmark(rev), nil
			}
		case <-ctx.Done():
			return Event{}, ctx.Err()
		}
	}
}

// Poll returns the next event if there is one already, so that whoever writes
// events out knows when to flush. Errors are those of Next.
func (w *Watch) Poll() (Event, bool, error) {
	if event, ok := w.nextInitial(); ok {
		return event, true, nil
	}
	return w.poll()
}

// Stop ends the watch. It is idempotent.
func (w *Watch) Stop() {
	w.cursor.Stop()
	if w.timer != nil {
		w.timer.Stop()
	}
}

// nextInitial tells of what there was at the beginning, and of its end.
func (w *Watch) nextInitial() (Event, bool) {
	if len(w.initial) > 0 {
		obj := w.initial[0]
		w.initial[0] = nil
		w.initial = w.initial[1:]
		return Event{Type: watch.Added, Object: obj, Revision: revision(obj)}, true
	}
	if w.endMark {
		w.endMark = false
		event := w.bookmark(w.listed)
		event.Object.SetAnnotations(map[string]string{metav1.InitialEventsAnnotationKey: "true"})
		return event, true
	}
	return Event{}, false
}

func (w *Watch) bookmark(rev store.Revision) Event {
	obj := empty(w.selected.kind)
	obj.GetObjectKind().SetGroupVersionKind(w.selected.kind.GVK())
	obj.SetResourceVersion(strconv.FormatInt(int64(rev), 10))
	return Event{Type: watch.Bookmark, Object: obj, Revision: rev}
}

// empty is an object without anything, as upstream's own types have it, some of whose
// numbers cannot be left out.
func empty(k *kind.Kind) kind.Object {
	obj := k.New()
	switch o := obj.(type) {
	case *appsv1.Deployment:
		o.Spec.Replicas = new(int32)
	case *appsv1.ReplicaSet:
		o.Spec.Replicas = new(int32)
	}
	return obj
}

func (w *Watch) poll() (Event, bool, error) {
	for {
		change, ok, err := w.cursor.Poll()
		if err != nil || !ok {
			return Event{}, false, watchError(err)
		}
		if change.Revision <= w.skip {
			continue
		}
		if event, ok := w.translate(change); ok {
			return event, true, nil
		}
	}
}

// translate turns a change of an object into what it means for the selection,
// which the object may have entered or left.
func (w *Watch) translate(change state.Event) (Event, bool) {
	event := Event{Object: change.Object, Revision: change.Revision}
	is := change.Type != state.Deleted && w.selected.matches(change.Object)
	was := false
	if change.Old != nil {
		was = w.selected.matches(change.Old)
	} else if change.Type == state.Deleted {
		was = w.selected.matches(change.Object)
	}
	switch {
	case is && was:
		event.Type = watch.Modified
	case is:
		event.Type = watch.Added
	case was:
		event.Type = watch.Deleted
		if change.Type != state.Deleted {
			// Who watches knew the old state: that is what is told to be gone.
			event.Object = change.Old.DeepCopyObject().(kind.Object)
			event.Object.SetResourceVersion(strconv.FormatInt(int64(change.Revision), 10))
		}
	default:
		return Event{}, false
	}
	return event, true
}

func watchError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, state.ErrExpired):
		return apierrors.NewResourceExpired("too old resource version: list again and watch from there")
	case errors.Is(err, store.ErrClosed):
		return apierrors.NewServiceUnavailable("the watch has ended")
	}
	return err
}
