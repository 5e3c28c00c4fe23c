package kind

import (
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func lease(holder string) *coordinationv1.Lease {
	return &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Name: "l", Namespace: "ns", UID: "1", ResourceVersion: "5"},
		Spec: coordinationv1.LeaseSpec{
			HolderIdentity:       &holder,
			LeaseDurationSeconds: ptr(int32(40)),
			RenewTime:            ptr(metav1.NewMicroTime(time.Unix(100, 0))),
		},
	}
}

// TestLeaseLazy: only a renewal may be lost in a crash; everything about who
// holds the Lease must be on disk before anyone believes it.
func TestLeaseLazy(t *testing.T) {
	cases := []struct {
		name   string
		change func(*coordinationv1.Lease)
		lazy   bool
	}{
		{"renewed", func(l *coordinationv1.Lease) { l.Spec.RenewTime = ptr(metav1.NewMicroTime(time.Unix(110, 0))) }, true},
		{"renewed by a manager of fields", func(l *coordinationv1.Lease) {
			l.Spec.RenewTime = ptr(metav1.NewMicroTime(time.Unix(110, 0)))
			l.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "m"}}
			l.ResourceVersion = ""
		}, true},
		{"another holder", func(l *coordinationv1.Lease) { l.Spec.HolderIdentity = ptr("b") }, false},
		{"given up", func(l *coordinationv1.Lease) { l.Spec.HolderIdentity = nil }, false},
		{"acquired again", func(l *coordinationv1.Lease) { l.Spec.AcquireTime = ptr(metav1.NewMicroTime(time.Unix(110, 0))) }, false},
		{"transitions", func(l *coordinationv1.Lease) { l.Spec.LeaseTransitions = ptr(int32(1)) }, false},
		{"duration", func(l *coordinationv1.Lease) { l.Spec.LeaseDurationSeconds = ptr(int32(41)) }, false},
		{"labels", func(l *coordinationv1.Lease) { l.Labels = map[string]string{"a": "b"} }, false},
		{"being deleted", func(l *coordinationv1.Lease) { l.DeletionTimestamp = ptr(metav1.NewTime(time.Unix(1, 0))) }, false},
	}
	for _, c := range cases {
		old, l := lease("a"), lease("a")
		c.change(l)
		if got := Lease.Lazy(l, old); got != c.lazy {
			t.Errorf("%s: lazy %v", c.name, got)
		}
		if old.Spec.RenewTime == nil || l.ResourceVersion != "" && l.ResourceVersion != "5" {
			t.Errorf("%s: the comparison changed an object", c.name)
		}
	}
	if Lease.Lazy(lease("a"), nil) {
		t.Error("a creation is lazy")
	}
}

func TestLease(t *testing.T) {
	l := lease("node-1")
	rowOf(t, Lease, l, "l", "node-1", "3h")
	sameErrors(t, Lease.Validate(l))
	l.Spec.LeaseDurationSeconds, l.Spec.LeaseTransitions = ptr(int32(0)), ptr(int32(-1))
	want := []string{
		"spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
		"spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0",
	}
	sameErrors(t, Lease.Validate(l), want...)
	old := lease("a")
	old.CreationTimestamp = l.CreationTimestamp
	sameErrors(t, Lease.ValidateUpdate(l, old), want...)
	l = lease("a")
	l.Spec.Strategy, l.Spec.PreferredHolder = ptr(coordinationv1.CoordinatedLeaseStrategy("Any")), ptr("b")
	Lease.PrepareUpdate(l, lease("a"))
	sameErrors(t, Lease.Validate(l))
}

// Deletions are durable, or a crash would bring back what someone gave up; only
// Events may come back for their last hour.
func TestLazyDeletion(t *testing.T) {
	for _, k := range All {
		if k.Lazy == nil {
			continue
		}
		if got, want := k.Lazy(nil, k.New()), k == Event; got != want {
			t.Errorf("deletion of a %s is lazy: %t, want %t", k.Kind, got, want)
		}
	}
}
