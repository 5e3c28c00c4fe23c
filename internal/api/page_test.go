package api_test

import (
	"context"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/kind"
)

// A full page has a next one where anything is left to look at, selected or not.
func TestListPageIsFull(t *testing.T) {
	c := newCluster(t)
	for i, node := range []string{"n1", "n1", "n2"} {
		p := pod(fmt.Sprintf("p%d", i), onNode(node))
		p.Labels = map[string]string{"i": fmt.Sprint(i)}
		c.create(kind.Pod, p)
	}
	tests := []struct {
		options metav1.ListOptions
		names   string
		more    bool
	}{
		{metav1.ListOptions{Limit: 1, LabelSelector: "i=0"}, "p0", true},
		{metav1.ListOptions{Limit: 1, LabelSelector: "i=2"}, "p2", false},
		{metav1.ListOptions{Limit: 2, LabelSelector: "i=0"}, "p0", false},
		{metav1.ListOptions{Limit: 1, FieldSelector: "metadata.name=p0"}, "p0", false},
		{metav1.ListOptions{Limit: 2, FieldSelector: "spec.nodeName=n1"}, "p0 p1", false},
		{metav1.ListOptions{Limit: 2, FieldSelector: "spec.nodeName!=n2"}, "p0 p1", true},
		{metav1.ListOptions{Limit: 3}, "p0 p1 p2", false},
		{metav1.ListOptions{Limit: 1, ResourceVersion: "0"}, "p0 p1 p2", false},
	}
	for _, test := range tests {
		list := c.list(kind.Pod, "default", test.options)
		if names(list.Items) != test.names || (list.Continue != "") != test.more || list.Remaining != nil {
			t.Errorf("%+v: %s, continue %q, remaining %v", test.options, names(list.Items), list.Continue, list.Remaining)
		}
	}
	all := c.list(kind.Pod, "", metav1.ListOptions{Limit: 1, FieldSelector: "metadata.name=p0"})
	if all.Continue == "" {
		t.Error("a name in all namespaces is no single object")
	}
	c.create(kind.Event, &corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "a"}, InvolvedObject: corev1.ObjectReference{Namespace: "default"}})
	c.create(kind.Event, &corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "b"}, InvolvedObject: corev1.ObjectReference{Namespace: "default"}})
	if list := c.list(kind.Event, "default", metav1.ListOptions{Limit: 1, ResourceVersion: "0"}); names(list.Items) != "a" {
		t.Errorf("Events, of which there is no cache: %s", names(list.Items))
	}
}

// What cannot be read is told before what does not fit together, and that before
// fields that there are none of.
func TestListOptionsInOrder(t *testing.T) {
	c := newCluster(t)
	tests := []struct {
		options metav1.ListOptions
		reason  metav1.StatusReason
		text    string
	}{
		{metav1.ListOptions{LabelSelector: ",", FieldSelector: "=,"}, metav1.StatusReasonBadRequest, "found ','"},
		{metav1.ListOptions{LabelSelector: "a<x", SendInitialEvents: new(false)}, metav1.StatusReasonBadRequest, "unable to parse requirement"},
		{metav1.ListOptions{FieldSelector: "a", ResourceVersionMatch: "Other"}, metav1.StatusReasonBadRequest, "invalid selector"},
		{metav1.ListOptions{FieldSelector: "spec.x=1", ResourceVersionMatch: "Other"}, metav1.StatusReasonInvalid, "resourceVersionMatch"},
		{metav1.ListOptions{FieldSelector: "spec.x=1", ResourceVersion: "x"}, metav1.StatusReasonBadRequest, "spec.x"},
	}
	for _, test := range tests {
		_, err := c.List(context.Background(), to(kind.ConfigMap, "default", ""), test.options)
		wantStatus(t, err, test.reason, test.text)
	}
	_, err := c.Watch(context.Background(), to(kind.Pod, "default", "a"), metav1.ListOptions{FieldSelector: "metadata.name=b"})
	wantStatus(t, err, metav1.StatusReasonBadRequest, "fieldSelector metadata.name doesn't match requested name")
}

// Who asks upstream's cache for a revision that is to come is told when to try again;
// one object at a given revision, and Events, are read from behind it.
func TestRevisionsToCome(t *testing.T) {
	c := newCluster(t)
	tests := []struct {
		kind    *kind.Kind
		options metav1.ListOptions
		seconds int32
	}{
		{kind.Pod, metav1.ListOptions{}, 1},
		{kind.Event, metav1.ListOptions{}, 0},
		{kind.Pod, metav1.ListOptions{ResourceVersionMatch: metav1.ResourceVersionMatchExact}, 1},
		{kind.Pod, metav1.ListOptions{ResourceVersionMatch: metav1.ResourceVersionMatchExact, FieldSelector: "metadata.name=a"}, 0},
		{kind.Pod, metav1.ListOptions{Limit: 1, FieldSelector: "metadata.name=a"}, 0},
		{kind.Pod, metav1.ListOptions{FieldSelector: "metadata.name=a"}, 1},
	}
	for _, test := range tests {
		test.options.ResourceVersion = "999999999"
		_, err := c.List(context.Background(), to(test.kind, "default", ""), test.options)
		status := wantStatus(t, err, metav1.StatusReasonTimeout, "Too large resource version")
		if got := status.ErrStatus.Details.RetryAfterSeconds; got != test.seconds {
			t.Errorf("%s %+v: again after %d s, want %d", test.kind.Kind, test.options, got, test.seconds)
		}
	}
	wantStatus(t, c.Reached(to(kind.Event, "default", "e"), "-1"), metav1.StatusReasonBadRequest, "invalid resource version: resourceVersion: Invalid value")
	wantStatus(t, c.Reached(to(kind.Pod, "default", "p"), "-1"), "", "resourceVersion: Invalid value")
	wantStatus(t, c.Reached(to(kind.Pod, "default", ".."), "-1"), metav1.StatusReasonBadRequest, "Name parameter invalid")
}

// A name that can be none is told to be, whatever is to be done.
func TestNamesThatCanBeNone(t *testing.T) {
	c := newCluster(t)
	ctx := context.Background()
	for name, text := range map[string]string{"..": "may not be '..'", "a/b": "may not contain '/'", "%": "may not contain '%'"} {
		text = fmt.Sprintf("Name parameter invalid: %q: %s", name, text)
		_, err := c.Get(ctx, to(kind.Pod, "default", name))
		wantStatus(t, err, metav1.StatusReasonBadRequest, text)
		_, _, err = c.Delete(ctx, to(kind.Pod, "default", name), metav1.DeleteOptions{})
		wantStatus(t, err, metav1.StatusReasonBadRequest, text)
		obj := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Name: name}} //nolint:staticcheck // which a PUT creates
		_, err = c.Update(ctx, to(kind.Endpoints, "default", name), obj)
		wantStatus(t, err, metav1.StatusReasonBadRequest, text)
		err = c.Bind(ctx, to(kind.Pod, "default", name), &corev1.Binding{
			ObjectMeta: metav1.ObjectMeta{Name: name}, Target: corev1.ObjectReference{Kind: "Node", Name: "n"},
		})
		wantStatus(t, err, metav1.StatusReasonBadRequest, text)
	}
	err := c.Bind(ctx, to(kind.Pod, "default", ""), &corev1.Binding{Target: corev1.ObjectReference{Kind: "Node", Name: "n"}})
	wantStatus(t, err, metav1.StatusReasonBadRequest, "Name parameter required.")
}

// An object that comes with a resourceVersion is checked like any other first.
func TestCreateWithRevision(t *testing.T) {
	c := newCluster(t)
	cm := configMap("a", "bad key", "x")
	cm.ResourceVersion = "5"
	_, err := c.Create(context.Background(), to(kind.ConfigMap, "default", ""), cm)
	wantStatus(t, err, metav1.StatusReasonInvalid, "data[bad key]")
	cm = configMap("a")
	cm.ResourceVersion = "5"
	_, err = c.Create(context.Background(), to(kind.ConfigMap, "default", ""), cm)
	wantStatus(t, err, "", "resourceVersion should not be set on objects to be created")
}
