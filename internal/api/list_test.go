package api_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/api"
	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
)

func names(items []kind.Object) string {
	var out []string
	for _, obj := range items {
		out = append(out, obj.GetName())
	}
	return strings.Join(out, " ")
}

func (c *cluster) list(k *kind.Kind, namespace string, options metav1.ListOptions) *api.List {
	c.t.Helper()
	list, err := c.List(context.Background(), to(k, namespace, ""), options)
	if err != nil {
		c.t.Fatalf("list %+v: %v", options, err)
	}
	return list
}

func TestListSelectors(t *testing.T) {
	c := newCluster(t)
	for i, node := range []string{"n1", "n2", ""} {
		p := pod(fmt.Sprintf("p%d", i), onNode(node))
		p.Labels = map[string]string{"i": fmt.Sprint(i)}
		c.create(kind.Pod, p)
	}
	tests := map[string]metav1.ListOptions{
		"p0 p1 p2": {},
		"p1":       {FieldSelector: "spec.nodeName=n2"},
		"p0 p1":    {FieldSelector: "spec.nodeName!="},
		"p0 p2":    {FieldSelector: "spec.nodeName!=n2"},
		"p2":       {FieldSelector: "spec.nodeName="},
		"p0":       {FieldSelector: "metadata.name=p0,metadata.namespace=default"},
		"":         {FieldSelector: "metadata.namespace=other"},
		"p1 p2":    {LabelSelector: "i in (1,2)"},
	}
	for want, options := range tests {
		if got := names(c.list(kind.Pod, "default", options).Items); got != want {
			t.Errorf("list %+v: %q, want %q", options, got, want)
		}
		if got := names(c.list(kind.Pod, "", options).Items); got != want {
			t.Errorf("list of all namespaces %+v: %q, want %q", options, got, want)
		}
	}
	_, err := c.List(context.Background(), to(kind.Pod, "default", ""), metav1.ListOptions{FieldSelector: "spec.color=red"})
	wantStatus(t, err, metav1.StatusReasonBadRequest, "field label not supported: spec.color")
	_, err = c.List(context.Background(), to(kind.Pod, "default", ""), metav1.ListOptions{LabelSelector: "a in b"})
	wantStatus(t, err, metav1.StatusReasonBadRequest, "unable to parse requirement: ")
}

func TestListPages(t *testing.T) {
	c := newCluster(t)
	for i := range 10 {
		c.create(kind.ConfigMap, configMap(fmt.Sprintf("c%d", i)))
	}
	first := c.list(kind.ConfigMap, "default", metav1.ListOptions{Limit: 4})
	if names(first.Items) != "c0 c1 c2 c3" || *first.Remaining != 6 {
		t.Fatalf("first page %s, remaining %v", names(first.Items), first.Remaining)
	}
	raw, err := base64.RawURLEncoding.DecodeString(first.Continue)
	if want := fmt.Sprintf(`{"v":"meta.k8s.io/v1","rv":%d,"start":"default/c3\u0000"}`, first.Revision); err != nil || string(raw) != want {
		t.Errorf("token %s, want %s", raw, want)
	}
	// What happens between the pages does not show.
	c.delete(kind.ConfigMap, "default", "c5", metav1.DeleteOptions{})
	c.create(kind.ConfigMap, configMap("c55"))
	second := c.list(kind.ConfigMap, "default", metav1.ListOptions{Limit: 4, Continue: first.Continue})
	third := c.list(kind.ConfigMap, "default", metav1.ListOptions{Limit: 4, Continue: second.Continue})
	if names(second.Items) != "c4 c5 c6 c7" || names(third.Items) != "c8 c9" {
		t.Errorf("pages %s | %s", names(second.Items), names(third.Items))
	}
	if second.Revision != first.Revision || third.Continue != "" || third.Remaining != nil || *second.Remaining != 2 {
		t.Errorf("revisions %d %d, last page %+v", first.Revision, second.Revision, third)
	}
	selected := c.list(kind.ConfigMap, "default", metav1.ListOptions{Limit: 1, FieldSelector: "metadata.name!=c0"})
	if names(selected.Items) != "c1" || selected.Remaining != nil || selected.Continue == "" {
		t.Errorf("selected page %+v", selected)
	}
}

func TestListTokensExpire(t *testing.T) {
	c := newCluster(t, func(_ *api.Config, o *state.Options) {
		o.Retain, o.Ring = state.Retain{Count: 1}, state.Ring{Events: 1}
	})
	for i := range 4 {
		c.create(kind.ConfigMap, configMap(fmt.Sprintf("c%d", i)))
	}
	first := c.list(kind.ConfigMap, "default", metav1.ListOptions{Limit: 2})
	c.delete(kind.ConfigMap, "default", "c2", metav1.DeleteOptions{})
	c.list(kind.ConfigMap, "default", metav1.ListOptions{Limit: 1}) // its revision takes the only place
	c.create(kind.ConfigMap, configMap("c5"))
	_, err := c.List(context.Background(), to(kind.ConfigMap, "default", ""), metav1.ListOptions{Limit: 2, Continue: first.Continue})
	status := wantStatus(t, err, metav1.StatusReasonExpired, "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response")
	rest := c.list(kind.ConfigMap, "default", metav1.ListOptions{Limit: 5, Continue: status.ErrStatus.ListMeta.Continue})
	if names(rest.Items) != "c3 c5" {
		t.Errorf("inconsistent rest %s", names(rest.Items))
	}
	_, err = c.List(context.Background(), to(kind.ConfigMap, "default", ""), metav1.ListOptions{Continue: "???"})
	wantStatus(t, err, metav1.StatusReasonBadRequest, "invalid continue token: continue key is not valid")
	_, err = c.List(context.Background(), to(kind.ConfigMap, "default", ""), metav1.ListOptions{Continue: first.Continue, ResourceVersion: "5"})
	wantStatus(t, err, metav1.StatusReasonBadRequest, "specifying resource version is not allowed when using continue")
}

func TestListResourceVersions(t *testing.T) {
	c := newCluster(t, func(_ *api.Config, o *state.Options) { o.Ring.Events = 1 })
	old := c.create(kind.ConfigMap, configMap("a"))
	c.create(kind.ConfigMap, configMap("b"))
	now := c.label("b", "x")
	exact, newer := metav1.ResourceVersionMatchExact, metav1.ResourceVersionMatchNotOlderThan
	for _, options := range []metav1.ListOptions{
		{}, {ResourceVersion: "0"}, {ResourceVersion: old.GetResourceVersion()},
		{ResourceVersion: old.GetResourceVersion(), ResourceVersionMatch: newer},
		{ResourceVersion: now.GetResourceVersion(), ResourceVersionMatch: exact},
	} {
		if got := names(c.list(kind.ConfigMap, "default", options).Items); got != "a b" {
			t.Errorf("list %+v: %q", options, got)
		}
	}
	tests := []struct {
		options metav1.ListOptions
		reason  metav1.StatusReason
		text    string
	}{
		{metav1.ListOptions{ResourceVersion: old.GetResourceVersion(), ResourceVersionMatch: exact}, metav1.StatusReasonExpired, "The resourceVersion for the provided list is too old."},
		{metav1.ListOptions{ResourceVersion: old.GetResourceVersion(), Limit: 1}, metav1.StatusReasonExpired, "The resourceVersion for the provided list is too old."},
		{metav1.ListOptions{ResourceVersion: "x"}, metav1.StatusReasonBadRequest, `invalid resource version: resourceVersion: Invalid value: "x"`},
		{metav1.ListOptions{ResourceVersion: "0", ResourceVersionMatch: exact}, metav1.StatusReasonInvalid, `resourceVersionMatch "exact" is forbidden for resourceVersion "0"`},
		{metav1.ListOptions{ResourceVersionMatch: newer}, metav1.StatusReasonInvalid, "resourceVersionMatch is forbidden unless resourceVersion is provided"},
		{metav1.ListOptions{SendInitialEvents: new(true)}, metav1.StatusReasonInvalid, "sendInitialEvents is forbidden for list"},
	}
	for _, test := range tests {
		_, err := c.List(context.Background(), to(kind.ConfigMap, "default", ""), test.options)
		wantStatus(t, err, test.reason, test.text)
	}
	future := fmt.Sprint(revision(t, now) + 1000000)
	_, err := c.List(context.Background(), to(kind.ConfigMap, "default", ""), metav1.ListOptions{ResourceVersion: future})
	status := wantStatus(t, err, metav1.StatusReasonTimeout, "Too large resource version: "+future)
	if !apierrors.HasStatusCause(status, metav1.CauseTypeResourceVersionTooLarge) || status.ErrStatus.Code != 504 {
		t.Errorf("status %+v", status.ErrStatus)
	}
}

// A revision passes with what happens to other kinds; the list at it stays the
// same, and so does what it calls itself.
func TestListAtARevisionOfOthers(t *testing.T) {
	c := newCluster(t)
	a := c.create(kind.ConfigMap, configMap("a"))
	for i := range 3 {
		c.create(kind.Lease, lease(fmt.Sprint("l", i), "me"))
	}
	options := metav1.ListOptions{ResourceVersion: a.GetResourceVersion(), ResourceVersionMatch: metav1.ResourceVersionMatchExact}
	list := c.list(kind.ConfigMap, "default", options)
	if names(list.Items) != "a" || list.Revision != revisionOf(t, a) {
		t.Errorf("list %s at %d, want a at %s", names(list.Items), list.Revision, a.GetResourceVersion())
	}
}

// What happened lately is known: lists show how it was.
func TestListOfThePast(t *testing.T) {
	c := newCluster(t)
	a := c.create(kind.ConfigMap, configMap("a"))
	b := c.create(kind.ConfigMap, configMap("b"))
	c.label("a", "changed")
	c.delete(kind.ConfigMap, "default", "b", metav1.DeleteOptions{})
	c.create(kind.ConfigMap, configMap("aa"))
	at := func(obj kind.Object) metav1.ListOptions {
		return metav1.ListOptions{ResourceVersion: obj.GetResourceVersion(), Limit: 1}
	}
	list := c.list(kind.ConfigMap, "default", at(a))
	if names(list.Items) != "a" || len(list.Items[0].GetLabels()) != 0 || list.Continue != "" {
		t.Errorf("at first: %s with %v, continue %q", names(list.Items), list.Items[0].GetLabels(), list.Continue)
	}
	list = c.list(kind.ConfigMap, "default", at(b))
	rest := c.list(kind.ConfigMap, "default", metav1.ListOptions{Continue: list.Continue})
	if names(list.Items) != "a" || names(rest.Items) != "b" || rest.Revision != revisionOf(t, b) {
		t.Errorf("later: %s, then %s at %d", names(list.Items), names(rest.Items), rest.Revision)
	}
	if all := c.list(kind.ConfigMap, "default", metav1.ListOptions{ResourceVersion: "0", Limit: 1}); names(all.Items) != "a aa" {
		t.Errorf("a limit on any revision: %s", names(all.Items))
	}
}

func TestListOfAClusterScopedKindIgnoresTheNamespace(t *testing.T) {
	c := newCluster(t)
	list := c.list(kind.Namespace, "default", metav1.ListOptions{})
	if names(list.Items) != "default kube-system" {
		t.Errorf("namespaces %s", names(list.Items))
	}
	if _, ok := list.Items[0].(*corev1.Namespace); !ok {
		t.Errorf("items are %T", list.Items[0])
	}
}
