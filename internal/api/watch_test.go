package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/skiff-sh/skiff/internal/api"
	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
	"github.com/skiff-sh/skiff/internal/store"
)

func (c *cluster) watch(k *kind.Kind, options metav1.ListOptions) *api.Watch {
	c.t.Helper()
	w, err := c.Watch(context.Background(), to(k, "default", ""), options)
	if err != nil {
		c.t.Fatalf("watch %+v: %v", options, err)
	}
	c.t.Cleanup(w.Stop)
	return w
}

func expect(t *testing.T, w *api.Watch, kind watch.EventType, name string) api.Event {
	t.Helper()
	event, err := w.Next(soon(t))
	if err != nil {
		t.Fatalf("want %s %s: %v", kind, name, err)
	}
	if event.Type != kind || event.Object.GetName() != name {
		t.Fatalf("event %s %s, want %s %s", event.Type, event.Object.GetName(), kind, name)
	}
	if rv := fmt.Sprint(event.Revision); event.Object.GetResourceVersion() != rv {
		t.Fatalf("event at %s shows an object at %s", rv, event.Object.GetResourceVersion())
	}
	return event
}

func (c *cluster) label(name, value string) kind.Object {
	c.t.Helper()
	obj, err := c.Modify(context.Background(), to(kind.ConfigMap, "default", name), func(obj kind.Object) error {
		obj.SetLabels(map[string]string{"l": value})
		return nil
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return obj
}

func TestWatchBeginnings(t *testing.T) {
	c := newCluster(t)
	a := c.create(kind.ConfigMap, configMap("a"))
	c.create(kind.ConfigMap, configMap("b"))
	newer := metav1.ResourceVersionMatchNotOlderThan
	all := c.watch(kind.ConfigMap, metav1.ListOptions{})
	zero := c.watch(kind.ConfigMap, metav1.ListOptions{ResourceVersion: "0", AllowWatchBookmarks: true})
	after := c.watch(kind.ConfigMap, metav1.ListOptions{ResourceVersion: a.GetResourceVersion()})
	streamed := c.watch(kind.ConfigMap, metav1.ListOptions{SendInitialEvents: new(true), ResourceVersionMatch: newer, AllowWatchBookmarks: true})
	silent := c.watch(kind.ConfigMap, metav1.ListOptions{SendInitialEvents: new(false), ResourceVersionMatch: newer})
	later := c.create(kind.ConfigMap, configMap("c"))
	for _, w := range []*api.Watch{all, zero} {
		expect(t, w, watch.Added, "a")
		expect(t, w, watch.Added, "b")
		if w == zero {
			expect(t, w, watch.Bookmark, "")
		}
		expect(t, w, watch.Added, "c")
	}
	expect(t, after, watch.Added, "b")
	expect(t, after, watch.Added, "c")
	expect(t, silent, watch.Added, "c")
	expect(t, streamed, watch.Added, "a")
	expect(t, streamed, watch.Added, "b")
	mark := expect(t, streamed, watch.Bookmark, "")
	if mark.Object.GetAnnotations()[metav1.InitialEventsAnnotationKey] != "true" || mark.Revision >= revisionOf(t, later) {
		t.Errorf("end of initial events: %+v", mark)
	}
	expect(t, streamed, watch.Added, "c")
}

func TestWatchOptions(t *testing.T) {
	c := newCluster(t)
	a := c.create(kind.ConfigMap, configMap("a"))
	tests := []struct {
		options metav1.ListOptions
		reason  metav1.StatusReason
		text    string
	}{
		{metav1.ListOptions{ResourceVersionMatch: "NotOlderThan"}, metav1.StatusReasonInvalid, "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"},
		{metav1.ListOptions{SendInitialEvents: new(true)}, metav1.StatusReasonInvalid, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"},
		{metav1.ListOptions{FieldSelector: "spec.x=1"}, metav1.StatusReasonBadRequest, `"spec.x" is not a known field selector: only "metadata.name", "metadata.namespace"`},
		{
			metav1.ListOptions{SendInitialEvents: new(true), ResourceVersionMatch: "NotOlderThan", ResourceVersion: fmt.Sprint(revision(t, a) + 1e6)},
			metav1.StatusReasonTimeout, "Too large resource version",
		},
	}
	for _, test := range tests {
		_, err := c.Watch(context.Background(), to(kind.ConfigMap, "default", ""), test.options)
		wantStatus(t, err, test.reason, test.text)
	}
}

func TestWatchFollowsTheSelection(t *testing.T) {
	c := newCluster(t)
	c.create(kind.ConfigMap, configMap("a"))
	w := c.watch(kind.ConfigMap, metav1.ListOptions{LabelSelector: "l=in"})
	c.label("a", "out")
	in := c.label("a", "in")
	expect(t, w, watch.Added, "a")
	if _, err := c.Modify(context.Background(), to(kind.ConfigMap, "default", "a"), func(obj kind.Object) error {
		obj.(*corev1.ConfigMap).Data = map[string]string{"k": "v"}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	expect(t, w, watch.Modified, "a")
	out := c.label("a", "out")
	left := expect(t, w, watch.Deleted, "a")
	if left.Object.GetLabels()["l"] != "in" || left.Revision != revisionOf(t, out) {
		t.Errorf("left with labels %v at %d", left.Object.GetLabels(), left.Revision)
	}
	if in.GetLabels()["l"] != "in" {
		t.Error("a shared object was changed")
	}
	c.label("a", "in")
	expect(t, w, watch.Added, "a")
	gone, _ := c.delete(kind.ConfigMap, "default", "a", metav1.DeleteOptions{})
	if e := expect(t, w, watch.Deleted, "a"); e.Revision != revisionOf(t, gone) {
		t.Errorf("deleted at %d, want %s", e.Revision, gone.GetResourceVersion())
	}
}

func TestWatchOfANodesPods(t *testing.T) {
	c := newCluster(t)
	w := c.watch(kind.Pod, metav1.ListOptions{FieldSelector: "spec.nodeName=n1"})
	c.create(kind.Pod, pod("a"))
	c.create(kind.Pod, pod("b"))
	for name, node := range map[string]string{"a": "n2", "b": "n1"} {
		if err := c.Bind(context.Background(), to(kind.Pod, "default", name), binding(name, node)); err != nil {
			t.Fatal(err)
		}
	}
	expect(t, w, watch.Added, "b")
	c.delete(kind.Pod, "default", "b", grace(3))
	expect(t, w, watch.Modified, "b")
	c.delete(kind.Pod, "default", "b", grace(0))
	expect(t, w, watch.Modified, "b") // its grace period has been cut short
	expect(t, w, watch.Deleted, "b")
}

func TestWatchExpires(t *testing.T) {
	c := newCluster(t, func(_ *api.Config, o *state.Options) { o.Ring = state.Ring{Events: 4} })
	a := c.create(kind.ConfigMap, configMap("a"))
	slow := c.watch(kind.ConfigMap, metav1.ListOptions{ResourceVersion: a.GetResourceVersion()})
	for i := range 8 {
		c.label("a", fmt.Sprint(i))
	}
	_, err := c.Watch(context.Background(), to(kind.ConfigMap, "default", ""), metav1.ListOptions{ResourceVersion: a.GetResourceVersion()})
	if status := wantStatus(t, err, metav1.StatusReasonExpired, "too old resource version"); status.ErrStatus.Code != 410 {
		t.Errorf("code %d", status.ErrStatus.Code)
	}
	_, err = slow.Next(soon(t))
	wantStatus(t, err, metav1.StatusReasonExpired, "too old resource version")
}

func TestWatchBookmarks(t *testing.T) {
	c := newCluster(t)
	c.create(kind.ConfigMap, configMap("a"))
	current := c.state.Revision()
	synctest.Test(t, func(t *testing.T) {
		w, err := c.Watch(t.Context(), to(kind.ConfigMap, "default", ""), metav1.ListOptions{
			ResourceVersion: fmt.Sprint(current), AllowWatchBookmarks: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Stop()
		for range 2 {
			began := time.Now()
			event, err := w.Next(t.Context())
			if err != nil || event.Type != watch.Bookmark || event.Revision != current || time.Since(began) != time.Minute {
				t.Fatalf("event %+v after %v, %v", event, time.Since(began), err)
			}
		}
	})
}

func TestWatchFromTheFuture(t *testing.T) {
	c := newCluster(t)
	a := c.create(kind.ConfigMap, configMap("a"))
	w := c.watch(kind.ConfigMap, metav1.ListOptions{ResourceVersion: fmt.Sprint(revision(t, a) + 2)})
	c.create(kind.ConfigMap, configMap("b"))
	c.create(kind.ConfigMap, configMap("c"))
	c.create(kind.ConfigMap, configMap("d"))
	expect(t, w, watch.Added, "d")
}

func TestWatchEndsWithItsContext(t *testing.T) {
	c := newCluster(t)
	w := c.watch(kind.ConfigMap, metav1.ListOptions{})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := w.Next(ctx); err != context.Canceled {
		t.Errorf("error %v", err)
	}
}

func revisionOf(t testing.TB, obj kind.Object) store.Revision {
	return store.Revision(revision(t, obj))
}

func binding(pod, node string) *corev1.Binding {
	return &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: pod},
		Target:     corev1.ObjectReference{Kind: "Node", Name: node},
	}
}

// A bookmark's object is empty as upstream's own types are: what they cannot leave out
// is there.
func TestBookmarkIsEmpty(t *testing.T) {
	c := newCluster(t)
	for _, k := range []*kind.Kind{kind.Deployment, kind.ReplicaSet} {
		w := c.watch(k, metav1.ListOptions{SendInitialEvents: new(true), ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan, AllowWatchBookmarks: true})
		data, err := json.Marshal(expect(t, w, watch.Bookmark, "").Object)
		if err != nil || !strings.Contains(string(data), `"spec":{"replicas":0,`) {
			t.Errorf("%s: %s, %v", k.Kind, data, err)
		}
	}
}
