package api_test

import (
	"context"
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skiff-sh/skiff/internal/api"
	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
)

func grace(seconds int64) metav1.DeleteOptions {
	return metav1.DeleteOptions{GracePeriodSeconds: &seconds}
}

func propagate(policy metav1.DeletionPropagation) metav1.DeleteOptions {
	return metav1.DeleteOptions{PropagationPolicy: &policy}
}

func (c *cluster) delete(k *kind.Kind, namespace, name string, options metav1.DeleteOptions) (kind.Object, bool) {
	c.t.Helper()
	obj, gone, err := c.Delete(context.Background(), to(k, namespace, name), options)
	if err != nil {
		c.t.Fatalf("delete %s %s/%s: %v", k.Kind, namespace, name, err)
	}
	return obj, gone
}

func TestDeletePlain(t *testing.T) {
	c := newCluster(t)
	cm := c.create(kind.ConfigMap, configMap("a"))
	obj, gone := c.delete(kind.ConfigMap, "default", "a", metav1.DeleteOptions{})
	if !gone || revision(t, obj) <= revision(t, cm) {
		t.Errorf("gone %v at %s, created at %s", gone, obj.GetResourceVersion(), cm.GetResourceVersion())
	}
	status, ok := api.DeleteAnswer(at(kind.ConfigMap, cm), obj, gone).(*metav1.Status)
	if !ok || status.Status != "Success" || status.Details.UID != cm.GetUID() || status.Details.Kind != "configmaps" {
		t.Errorf("answer %+v", status)
	}
	_, _, err := c.Delete(context.Background(), to(kind.ConfigMap, "default", "a"), metav1.DeleteOptions{})
	wantStatus(t, err, metav1.StatusReasonNotFound, `configmaps "a" not found`)
}

// The garbage collector does not look at Events: what asks for it does not keep them.
func TestDeleteEvent(t *testing.T) {
	c := newCluster(t)
	event := &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Namespace: "default", Name: "e", Finalizers: []string{metav1.FinalizerDeleteDependents}},
		InvolvedObject: corev1.ObjectReference{Namespace: "default"},
	}
	made := c.create(kind.Event, event)
	policy := metav1.DeletePropagationForeground
	obj, gone := c.delete(kind.Event, "default", "e", metav1.DeleteOptions{PropagationPolicy: &policy})
	req := at(kind.Event, made)
	req.Face = &kind.Event.Faces[0]
	status, ok := api.DeleteAnswer(req, obj, gone).(*metav1.Status)
	if !gone || !ok || status.Details.Group != "events.k8s.io" {
		t.Errorf("gone: %v, answer %+v", gone, status)
	}
}

func TestDeletePreconditions(t *testing.T) {
	c := newCluster(t)
	cm := c.create(kind.ConfigMap, configMap("a"))
	uid, version := types.UID("other"), "1"
	_, _, err := c.Delete(context.Background(), at(kind.ConfigMap, cm), metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
	wantStatus(t, err, metav1.StatusReasonConflict, `Operation cannot be fulfilled on ConfigMap "a": the UID in the precondition (other) does not match the UID in record (`)
	_, _, err = c.Delete(context.Background(), at(kind.ConfigMap, cm), metav1.DeleteOptions{Preconditions: &metav1.Preconditions{ResourceVersion: &version}})
	wantStatus(t, err, metav1.StatusReasonConflict, "the ResourceVersion in the precondition (1) does not match the ResourceVersion in record (")
	ns := c.create(kind.Namespace, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "held"}})
	_, _, err = c.Delete(context.Background(), at(kind.Namespace, ns), metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
	wantStatus(t, err, metav1.StatusReasonConflict, `Operation cannot be fulfilled on namespaces "held": Precondition failed: UID in precondition: other, UID in object meta: `)
	bad := metav1.DeletionPropagation("Sideways")
	_, _, err = c.Delete(context.Background(), at(kind.ConfigMap, cm), metav1.DeleteOptions{PropagationPolicy: &bad})
	wantStatus(t, err, metav1.StatusReasonInvalid, "propagationPolicy")
}

func TestDeleteWaitsForFinalizers(t *testing.T) {
	c := newCluster(t)
	cm := configMap("a")
	cm.Finalizers = []string{"example.com/hold", "example.com/too"}
	c.create(kind.ConfigMap, cm)
	obj, gone := c.delete(kind.ConfigMap, "default", "a", metav1.DeleteOptions{})
	if gone || obj.GetDeletionTimestamp() == nil || *obj.GetDeletionGracePeriodSeconds() != 0 {
		t.Fatalf("gone %v, %+v", gone, obj)
	}
	before := c.state.Revision()
	if _, gone := c.delete(kind.ConfigMap, "default", "a", metav1.DeleteOptions{}); gone || c.state.Revision() != before {
		t.Error("a second delete changed something")
	}
	drop := func(keep ...string) error {
		_, err := c.Modify(context.Background(), at(kind.ConfigMap, cm), func(obj kind.Object) error {
			obj.SetFinalizers(keep)
			return nil
		})
		return err
	}
	if err := drop("example.com/hold"); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, drop("example.com/hold", "example.com/new"), metav1.StatusReasonInvalid, "no new finalizers can be added if the object is being deleted")
	if err := drop(); err != nil {
		t.Fatal(err)
	}
	c.isGone(kind.ConfigMap, "default", "a")
}

func TestDeletePropagation(t *testing.T) {
	yes := true
	tests := map[string]struct {
		options metav1.DeleteOptions
		want    []string
	}{
		"foreground":    {propagate(metav1.DeletePropagationForeground), []string{metav1.FinalizerDeleteDependents}},
		"orphan":        {propagate(metav1.DeletePropagationOrphan), []string{metav1.FinalizerOrphanDependents}},
		"legacy orphan": {metav1.DeleteOptions{OrphanDependents: &yes}, []string{metav1.FinalizerOrphanDependents}},
		"background":    {propagate(metav1.DeletePropagationBackground), nil},
		"default":       {metav1.DeleteOptions{}, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			c.create(kind.Deployment, deployment("d", 1))
			obj, gone := c.delete(kind.Deployment, "default", "d", test.options)
			if gone != (test.want == nil) {
				t.Fatalf("gone %v", gone)
			}
			if !gone && (!slices.Equal(obj.GetFinalizers(), test.want) || obj.(*appsv1.Deployment).Generation != 2) {
				t.Errorf("finalizers %v, generation %d", obj.GetFinalizers(), obj.GetGeneration())
			}
		})
	}
}

func TestDeleteAgainKeepsFinalizersAsTheyAre(t *testing.T) {
	c := newCluster(t)
	d := deployment("d", 1)
	d.Finalizers = []string{metav1.FinalizerDeleteDependents, "example.com/hold"}
	c.create(kind.Deployment, d)
	for _, options := range []metav1.DeleteOptions{{}, propagate(metav1.DeletePropagationForeground)} {
		obj, gone := c.delete(kind.Deployment, "default", "d", options)
		if gone || !slices.Equal(obj.GetFinalizers(), []string{metav1.FinalizerDeleteDependents, "example.com/hold"}) {
			t.Errorf("gone %v, finalizers %v", gone, obj.GetFinalizers())
		}
	}
	obj, _ := c.delete(kind.Deployment, "default", "d", propagate(metav1.DeletePropagationBackground))
	if !slices.Equal(obj.GetFinalizers(), []string{"example.com/hold"}) {
		t.Errorf("finalizers %v after a change to background", obj.GetFinalizers())
	}
}

func TestDeletePodGracefully(t *testing.T) {
	c := newCluster(t)
	created := c.create(kind.Pod, pod("p", onNode("n1")))
	obj, gone := c.delete(kind.Pod, "default", "p", metav1.DeleteOptions{})
	if gone || *obj.GetDeletionGracePeriodSeconds() != 30 || obj.GetGeneration() != created.GetGeneration()+1 {
		t.Fatalf("gone %v, grace %v, generation %d", gone, obj.GetDeletionGracePeriodSeconds(), obj.GetGeneration())
	}
	deadline := obj.GetDeletionTimestamp()
	longer, _ := c.delete(kind.Pod, "default", "p", grace(60))
	if *longer.GetDeletionGracePeriodSeconds() != 30 {
		t.Error("a second delete made the grace period longer")
	}
	shorter, gone := c.delete(kind.Pod, "default", "p", grace(5))
	if gone || *shorter.GetDeletionGracePeriodSeconds() != 5 || deadline.Sub(shorter.GetDeletionTimestamp().Time).Seconds() != 25 {
		t.Errorf("gone %v, grace %d, deadline %v after %v", gone, *shorter.GetDeletionGracePeriodSeconds(), shorter.GetDeletionTimestamp(), deadline)
	}
	if _, gone := c.delete(kind.Pod, "default", "p", grace(0)); !gone {
		t.Error("the Pod is still there after a delete without grace")
	}
}

func TestDeletePodAtOnce(t *testing.T) {
	c := newCluster(t)
	created := c.create(kind.Pod, pod("unbound"))
	last, gone := c.delete(kind.Pod, "default", "unbound", metav1.DeleteOptions{})
	if !gone {
		t.Error("a Pod on no node waits for its grace period")
	}
	if last.GetDeletionTimestamp() == nil || *last.GetDeletionGracePeriodSeconds() != 0 || last.GetGeneration() != created.GetGeneration()+1 {
		t.Errorf("the last that is seen of the Pod says nothing of its end: %+v", last)
	}
	c.isGone(kind.Pod, "default", "unbound")
	p := pod("held", onNode("n1"))
	p.Finalizers = []string{"example.com/hold"}
	c.create(kind.Pod, p)
	c.delete(kind.Pod, "default", "held", grace(10))
	release := func() {
		if _, err := c.Modify(context.Background(), to(kind.Pod, "default", "held"), func(obj kind.Object) error {
			obj.SetFinalizers(nil)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	obj, gone := c.delete(kind.Pod, "default", "held", grace(0))
	if gone || *obj.GetDeletionGracePeriodSeconds() != 0 {
		t.Fatalf("gone %v with a finalizer, grace %d", gone, *obj.GetDeletionGracePeriodSeconds())
	}
	for _, policy := range []metav1.DeletionPropagation{metav1.DeletePropagationOrphan, metav1.DeletePropagationForeground} {
		if obj, _ = c.delete(kind.Pod, "default", "held", propagate(policy)); len(obj.GetFinalizers()) != 2 {
			t.Errorf("finalizers %v after another deletion, %s, of a Pod that has no grace left", obj.GetFinalizers(), policy)
		}
	}
	release()
	c.isGone(kind.Pod, "default", "held")

	c.create(kind.Pod, pod("running", onNode("n1"), func(p *corev1.Pod) { p.Finalizers = []string{"example.com/hold"}; p.Name = "held" }))
	c.delete(kind.Pod, "default", "held", grace(10))
	release()
	c.get(kind.Pod, "default", "held") // its grace period is still running
}

func TestDeleteNamespace(t *testing.T) {
	c := newCluster(t)
	ctx := context.Background()
	for _, name := range []string{"default", "kube-system"} {
		_, _, err := c.Delete(ctx, to(kind.Namespace, "", name), metav1.DeleteOptions{})
		wantStatus(t, err, metav1.StatusReasonForbidden, `namespaces "`+name+`" is forbidden: this namespace may not be deleted`)
	}
	c.create(kind.Namespace, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "team"}})
	obj, gone := c.delete(kind.Namespace, "", "team", metav1.DeleteOptions{})
	ns := obj.(*corev1.Namespace)
	if gone || ns.Status.Phase != corev1.NamespaceTerminating || ns.DeletionTimestamp == nil || len(ns.Spec.Finalizers) != 1 {
		t.Fatalf("gone %v, %+v", gone, ns)
	}
	if _, gone := c.delete(kind.Namespace, "", "team", metav1.DeleteOptions{}); gone {
		t.Fatal("a second delete removed a namespace that still has a finalizer")
	}
	req := to(kind.Namespace, "", "team")
	req.Subresource = "finalize"
	if _, err := c.Modify(ctx, req, func(obj kind.Object) error {
		obj.(*corev1.Namespace).Spec.Finalizers = nil
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	c.isGone(kind.Namespace, "", "team")
}

func TestDeleteCollection(t *testing.T) {
	c := newCluster(t)
	for _, name := range []string{"a", "b", "c"} {
		cm := configMap(name)
		cm.Labels = map[string]string{"keep": map[bool]string{true: "yes", false: "no"}[name == "b"]}
		c.create(kind.ConfigMap, cm)
	}
	list, err := c.DeleteCollection(context.Background(), to(kind.ConfigMap, "default", ""), metav1.ListOptions{LabelSelector: "keep=no"}, metav1.DeleteOptions{})
	if err != nil || len(list.Items) != 2 {
		t.Fatalf("deleted %v, %v", list, err)
	}
	c.get(kind.ConfigMap, "default", "b")
	c.isGone(kind.ConfigMap, "default", "a")
	c.isGone(kind.ConfigMap, "default", "c")
}

func TestDeleteDryRun(t *testing.T) {
	c := newCluster(t)
	c.create(kind.ConfigMap, configMap("a"))
	req := to(kind.ConfigMap, "default", "a")
	req.DryRun = true
	if _, gone, err := c.Delete(context.Background(), req, metav1.DeleteOptions{}); err != nil || !gone {
		t.Fatalf("gone %v, %v", gone, err)
	}
	c.get(kind.ConfigMap, "default", "a")
}

// A grace period that is over when it is shortened leaves the least there is: no
// deadline lies in the past.
func TestDeleteShortensToNow(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	c := newCluster(t, func(o *api.Config, _ *state.Options) { o.Now = func() time.Time { return now } })
	c.create(kind.Pod, pod("p", onNode("n1")))
	c.delete(kind.Pod, "default", "p", grace(30))
	now = now.Add(20 * time.Second)
	obj, gone := c.delete(kind.Pod, "default", "p", grace(5))
	if gone || *obj.GetDeletionGracePeriodSeconds() != 1 || !obj.GetDeletionTimestamp().Time.Equal(now) {
		t.Errorf("gone %v, grace %d, deadline %v at %v", gone, *obj.GetDeletionGracePeriodSeconds(), obj.GetDeletionTimestamp(), now)
	}
}

// What is wrong with the options is told even where there is nothing to delete, and a
// precondition that one object does not fulfil saves those behind it.
func TestDeleteCollectionOptions(t *testing.T) {
	c := newCluster(t)
	ctx := context.Background()
	all := to(kind.ConfigMap, "default", "")
	_, err := c.DeleteCollection(ctx, all, metav1.ListOptions{}, metav1.DeleteOptions{DryRun: []string{"Other"}})
	wantStatus(t, err, metav1.StatusReasonInvalid, "dryRun: Unsupported value")
	a := c.create(kind.ConfigMap, configMap("a"))
	c.create(kind.ConfigMap, configMap("b"))
	c.create(kind.ConfigMap, configMap("c"))
	uid := a.GetUID()
	_, err = c.DeleteCollection(ctx, all, metav1.ListOptions{}, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
	status := wantStatus(t, err, metav1.StatusReasonConflict, "the UID in the precondition")
	if status.ErrStatus.Details.Name != "b" {
		t.Errorf("told of %s", status.ErrStatus.Details.Name)
	}
	c.isGone(kind.ConfigMap, "default", "a")
	c.get(kind.ConfigMap, "default", "c")
}

func TestDeleteNamespacePropagation(t *testing.T) {
	tests := []struct {
		orphan *bool
		want   string
	}{{nil, "foregroundDeletion"}, {new(true), "orphan"}, {new(false), "foregroundDeletion"}}
	for _, test := range tests {
		c := newCluster(t)
		c.create(kind.Namespace, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "n", Finalizers: []string{metav1.FinalizerDeleteDependents}}})
		obj, gone := c.delete(kind.Namespace, "", "n", metav1.DeleteOptions{OrphanDependents: test.orphan})
		if gone || !slices.Equal(obj.GetFinalizers(), []string{test.want}) {
			t.Errorf("orphans %v: gone %v, %v", test.orphan, gone, obj.GetFinalizers())
		}
	}
}

// A dry run that takes the collector's finalizers away answers with nothing of the
// object, as upstream's.
func TestDeleteDryRunWithoutFinalizers(t *testing.T) {
	c := newCluster(t)
	cm := configMap("a")
	cm.Finalizers = []string{metav1.FinalizerOrphanDependents}
	c.create(kind.ConfigMap, cm)
	req := to(kind.ConfigMap, "default", "a")
	req.DryRun = true
	obj, gone, err := c.Delete(context.Background(), req, propagate(metav1.DeletePropagationBackground))
	if err != nil || !gone || obj.GetName() != "" || api.DeleteAnswer(req, obj, gone) != obj {
		t.Errorf("gone %v, %+v, %v", gone, obj, err)
	}
	c.get(kind.ConfigMap, "default", "a")
	req.DryRun = false // as who documents the answer asks
	if _, ok := api.DeleteAnswer(req, kind.ConfigMap.New(), true).(*metav1.Status); !ok {
		t.Error("a deletion is not answered with a Status")
	}
}

// A Pod that was without grace already is gone as it was last stored.
func TestDeletePodForTheSecondTime(t *testing.T) {
	c := newCluster(t)
	c.create(kind.Pod, pod("p"))
	if _, gone := c.delete(kind.Pod, "default", "p", propagate(metav1.DeletePropagationOrphan)); gone {
		t.Fatal("gone with a finalizer")
	}
	obj, gone := c.delete(kind.Pod, "default", "p", propagate(metav1.DeletePropagationBackground))
	if !gone || !slices.Equal(obj.GetFinalizers(), []string{metav1.FinalizerOrphanDependents}) {
		t.Errorf("gone %v, finalizers %v", gone, obj.GetFinalizers())
	}
	c.isGone(kind.Pod, "default", "p")
}
