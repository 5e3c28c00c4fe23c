package api_test

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skiff-sh/skiff/internal/api"
	"github.com/skiff-sh/skiff/internal/kind"
)

func revision(t testing.TB, obj kind.Object) int64 {
	t.Helper()
	n, err := strconv.ParseInt(obj.GetResourceVersion(), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func edited(obj kind.Object, value string) *corev1.ConfigMap {
	cm := obj.(*corev1.ConfigMap).DeepCopy()
	cm.Data = map[string]string{"k": value}
	return cm
}

// Who may change an object but not make one is stopped where it is missing.
func TestChangesCreateOnlyWithTheRight(t *testing.T) {
	c := newCluster(t)
	refused := apierrors.NewForbidden(kind.Lease.GroupResource(), "l", errors.New("no"))
	put := to(kind.Lease, "default", "l")
	put.MayCreate = func(context.Context) error { return refused }
	_, err := c.Update(context.Background(), put, lease("l", "a"))
	wantStatus(t, err, metav1.StatusReasonForbidden, "no")
	applied := to(kind.ConfigMap, "default", "cm")
	applied.FieldManager, applied.MayCreate = "m", put.MayCreate
	patch := api.Patch{Type: types.ApplyPatchType, Data: []byte(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"cm"}}`)}
	_, _, err = c.Apply(context.Background(), applied, patch)
	wantStatus(t, err, metav1.StatusReasonForbidden, "no")
	c.create(kind.ConfigMap, configMap("cm"))
	if _, _, err = c.Apply(context.Background(), applied, patch); err != nil {
		t.Errorf("apply to what is there: %v", err)
	}
}

func TestUpdateConflicts(t *testing.T) {
	c := newCluster(t)
	ctx := context.Background()
	first := c.create(kind.ConfigMap, configMap("a", "k", "1"))
	if _, err := c.Update(ctx, at(kind.ConfigMap, first), edited(first, "2")); err != nil {
		t.Fatal(err)
	}
	_, err := c.Update(ctx, at(kind.ConfigMap, first), edited(first, "3"))
	wantStatus(t, err, metav1.StatusReasonConflict,
		`Operation cannot be fulfilled on configmaps "a": the object has been modified; please apply your changes to the latest version and try again`)

	unconditional := edited(first, "4")
	unconditional.ResourceVersion = ""
	if _, err := c.Update(ctx, at(kind.ConfigMap, first), unconditional); err != nil {
		t.Fatal(err)
	}
	other := edited(c.get(kind.ConfigMap, "default", "a"), "5")
	other.UID = "another"
	_, err = c.Update(ctx, at(kind.ConfigMap, first), other)
	wantStatus(t, err, metav1.StatusReasonConflict, "Precondition failed: UID in precondition: another, UID in object meta: "+string(first.GetUID()))

	misnamed := edited(first, "6")
	misnamed.Name = "b"
	_, err = c.Update(ctx, at(kind.ConfigMap, first), misnamed)
	wantStatus(t, err, metav1.StatusReasonBadRequest, "the name of the object (b) does not match the name on the URL (a)")
	_, err = c.Update(ctx, to(kind.ConfigMap, "default", "missing"), configMap("missing"))
	wantStatus(t, err, metav1.StatusReasonNotFound, `configmaps "missing" not found`)
}

func TestUpdateWithoutChangeIsNotWritten(t *testing.T) {
	c := newCluster(t)
	first := c.create(kind.ConfigMap, configMap("a", "k", "1"))
	before := c.state.Revision()
	same := first.(*corev1.ConfigMap).DeepCopy()
	same.ResourceVersion = ""
	out, err := c.Update(context.Background(), at(kind.ConfigMap, first), same)
	if err != nil {
		t.Fatal(err)
	}
	if c.state.Revision() != before || out.GetResourceVersion() != first.GetResourceVersion() {
		t.Errorf("an update without a change took revision %s", out.GetResourceVersion())
	}
}

func TestUpdateKeepsMetadata(t *testing.T) {
	c := newCluster(t)
	first := c.create(kind.ConfigMap, configMap("a", "k", "1"))
	cm := edited(first, "2")
	cm.CreationTimestamp, cm.UID = metav1.Time{}, ""
	out, err := c.Update(context.Background(), at(kind.ConfigMap, first), cm)
	if err != nil {
		t.Fatal(err)
	}
	created := first.GetCreationTimestamp()
	if out.GetUID() != first.GetUID() || !created.Equal(new(out.GetCreationTimestamp())) {
		t.Errorf("uid %s and creation %v of %s and %v", out.GetUID(), out.GetCreationTimestamp(), first.GetUID(), created)
	}
	cm = edited(out, "3")
	now := metav1.Now()
	cm.DeletionTimestamp = &now
	_, err = c.Update(context.Background(), at(kind.ConfigMap, first), cm)
	wantStatus(t, err, metav1.StatusReasonInvalid, "metadata.deletionTimestamp: Invalid value")
}

func TestPutCreatesWhatMayBeCreated(t *testing.T) {
	c := newCluster(t)
	_, created, err := c.Put(context.Background(), to(kind.Lease, "default", "l"), lease("l", "me"))
	if err != nil || !created {
		t.Fatalf("put of a missing lease: created %v, %v", created, err)
	}
	_, _, err = c.Put(context.Background(), to(kind.Lease, "default", "l"), lease("l", "you"))
	wantStatus(t, err, metav1.StatusReasonInvalid, "metadata.resourceVersion: Invalid value: 0: must be specified for an update")
	renewed := c.get(kind.Lease, "default", "l").DeepCopyObject().(kind.Object)
	renewed.SetLabels(map[string]string{"a": "b"})
	if _, created, err = c.Put(context.Background(), to(kind.Lease, "default", "l"), renewed); err != nil || created {
		t.Fatalf("put of an existing lease: created %v, %v", created, err)
	}
}

func TestModifyRetriesAndCountsEveryChange(t *testing.T) {
	c := newCluster(t)
	c.create(kind.ConfigMap, configMap("n", "n", "0"))
	const writers, each = 8, 20
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range each {
				_, err := c.Modify(context.Background(), to(kind.ConfigMap, "default", "n"), func(obj kind.Object) error {
					cm := obj.(*corev1.ConfigMap)
					n, err := strconv.Atoi(cm.Data["n"])
					cm.Data["n"] = strconv.Itoa(n + 1)
					return err
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got := c.get(kind.ConfigMap, "default", "n").(*corev1.ConfigMap).Data["n"]; got != strconv.Itoa(writers*each) {
		t.Errorf("counted to %s", got)
	}
	before := c.state.Revision()
	if _, err := c.Modify(context.Background(), to(kind.ConfigMap, "default", "n"), func(kind.Object) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if c.state.Revision() != before {
		t.Error("a change of nothing was committed")
	}
	stop := errors.New("stop")
	if _, err := c.Modify(context.Background(), to(kind.ConfigMap, "default", "n"), func(kind.Object) error { return stop }); err != stop {
		t.Errorf("error %v, want the caller's own", err)
	}
}

func TestStatusAndSpecAreApart(t *testing.T) {
	c := newCluster(t)
	ctx := context.Background()
	d := c.create(kind.Deployment, deployment("d", 2))
	if d.GetGeneration() != 1 {
		t.Fatalf("generation %d at creation", d.GetGeneration())
	}
	req := at(kind.Deployment, d)
	req.Subresource = "status"
	out, err := c.Modify(ctx, req, func(obj kind.Object) error {
		replicas := int32(9)
		o := asDeployment(obj)
		o.Spec.Replicas, o.Status.Replicas, o.Status.ObservedGeneration = &replicas, 2, 1
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if o := asDeployment(out); *o.Spec.Replicas != 2 || o.Status.Replicas != 2 || o.Generation != 1 {
		t.Errorf("status update made replicas %d, status %d, generation %d", *o.Spec.Replicas, o.Status.Replicas, o.Generation)
	}
	out, err = c.Modify(ctx, at(kind.Deployment, d), func(obj kind.Object) error {
		replicas := int32(3)
		o := asDeployment(obj)
		o.Spec.Replicas, o.Status.Replicas = &replicas, 77
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if o := asDeployment(out); *o.Spec.Replicas != 3 || o.Status.Replicas != 2 || o.Generation != 2 {
		t.Errorf("spec update made replicas %d, status %d, generation %d", *o.Spec.Replicas, o.Status.Replicas, o.Generation)
	}
	before := c.state.Revision()
	if out, err = c.Modify(ctx, at(kind.Deployment, d), func(obj kind.Object) error { obj.SetGeneration(99); return nil }); err != nil {
		t.Fatal(err)
	}
	if out.GetGeneration() != 2 || c.state.Revision() != before {
		t.Errorf("a client set generation %d", out.GetGeneration())
	}
	req.Subresource = "unknown"
	_, err = c.Modify(ctx, req, func(kind.Object) error { return nil })
	wantStatus(t, err, metav1.StatusReasonNotFound, "")
}

// What a PUT or an apply makes of nothing keeps that it is deleted, as upstream's does,
// which forgets it for a POST only.
func TestCreateInsteadKeepsDeletion(t *testing.T) {
	c := newCluster(t)
	deleted := metav1.NewTime(time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC))
	obj := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Name: "e", Namespace: "default", DeletionTimestamp: &deleted}} //nolint:staticcheck // which a PUT creates
	out, created, err := c.Put(context.Background(), to(kind.Endpoints, "default", "e"), obj)
	if err != nil || !created || !out.GetDeletionTimestamp().Equal(&deleted) {
		t.Errorf("PUT: created %v, %v, %+v", created, err, out)
	}
	text := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, deletionTimestamp: 2020-01-02T03:04:05Z}\n"
	out, created, err = c.Apply(context.Background(), to(kind.ConfigMap, "default", "c"), api.Patch{Data: []byte(text)})
	if err != nil || !created || !out.GetDeletionTimestamp().Equal(&deleted) {
		t.Errorf("apply: created %v, %v, %+v", created, err, out)
	}
	if _, gone := c.delete(kind.ConfigMap, "default", "c", metav1.DeleteOptions{}); !gone {
		t.Error("what was deleted when it was made cannot be deleted")
	}
	posted := configMap("p")
	posted.DeletionTimestamp = &deleted
	if c.create(kind.ConfigMap, posted).GetDeletionTimestamp() != nil {
		t.Error("a POST makes something that is deleted")
	}
}

// A selfLink is dropped by what stores: a dry run gives it back.
func TestSelfLink(t *testing.T) {
	c := newCluster(t)
	c.create(kind.ConfigMap, configMap("a"))
	for _, dry := range []bool{true, false} {
		req := to(kind.ConfigMap, "default", "a")
		req.DryRun = dry
		cm := configMap("a")
		cm.SelfLink = "/x"
		out, err := c.Update(context.Background(), req, cm)
		if err != nil || (out.GetSelfLink() != "") != dry {
			t.Errorf("dry run %v: %q, %v", dry, out.GetSelfLink(), err)
		}
	}
}
