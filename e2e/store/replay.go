package main

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// heartbeat is an object that one of upstream's components writes again and
// again in a cluster where nothing happens.
type heartbeat struct {
	key   string
	every time.Duration
	value func() []byte
}

// upstream are the heartbeats of a cluster with one node and upstream's
// defaults: kubelet's Lease every quarter of its 40 s and its Node's status
// every 5 min when nothing changed; leader election's retry period of 2 s; the
// API server's identity every 10 s. The API server's own endpoint record, which
// it also writes every 10 s, is left out, in etcd's favour.
var upstream = []heartbeat{
	{"/registry/leases/kube-node-lease/node", 10 * time.Second, lease("node", "kubelet")},
	{"/registry/leases/kube-system/kube-controller-manager", 2 * time.Second, lease("kube-controller-manager", "kube-controller-manager")},
	{"/registry/leases/kube-system/kube-scheduler", 2 * time.Second, lease("kube-scheduler", "kube-scheduler")},
	{"/registry/leases/kube-system/apiserver-abcdefghijklmnopqrstuvwxyz", 10 * time.Second,
		lease("apiserver-abcdefghijklmnopqrstuvwxyz", "kube-apiserver")},
	{"/registry/minions/node", 5 * time.Minute, node},
}

// replay writes the heartbeats for a while.
func replay(ctx context.Context, e *etcd, spell time.Duration) error {
	group, ctx := errgroup.WithContext(ctx)
	over := time.Now().Add(spell)
	for _, beat := range upstream {
		group.Go(func() error {
			revision := int64(0)
			// The first one comes after half a period, so that as many fall into
			// the spell as periods do.
			for next := time.Now().Add(beat.every / 2); next.Before(over); next = next.Add(beat.every) {
				if err := sleepUntil(ctx, next); err != nil {
					return err
				}
				var err error
				if revision, err = e.put(ctx, 0, beat.key, beat.value(), revision); err != nil {
					return fmt.Errorf("write %s: %w", beat.key, err)
				}
			}
			return sleepUntil(ctx, over)
		})
	}
	return group.Wait()
}

func sleepUntil(ctx context.Context, t time.Time) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Until(t)):
		return nil
	}
}

// lease returns a Lease that is renewed now, as stored.
func lease(name, manager string) func() []byte {
	return func() []byte {
		now := metav1.NowMicro()
		fields := `{"f:spec":{"f:acquireTime":{},"f:holderIdentity":{},"f:leaseDurationSeconds":{},"f:leaseTransitions":{},"f:renewTime":{}}}`
		l := &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: name, UID: podUID(0), CreationTimestamp: born,
				ManagedFields: []metav1.ManagedFieldsEntry{{Manager: manager, Operation: metav1.ManagedFieldsOperationUpdate,
					APIVersion: "coordination.k8s.io/v1", Time: &born, FieldsType: "FieldsV1", FieldsV1: &metav1.FieldsV1{Raw: []byte(fields)}}}},
			Spec: coordinationv1.LeaseSpec{HolderIdentity: new("node_3f2b8c1e-0000-4000-8000-000000000000"),
				LeaseDurationSeconds: new(int32(15)), AcquireTime: &now, RenewTime: &now, LeaseTransitions: new(int32(1))},
		}
		value, _ := l.Marshal() // into memory that it has measured: it cannot fail
		return value
	}
}

// node returns a Node whose status was reported now, as stored.
func node() []byte {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node", UID: podUID(0), CreationTimestamp: born,
		Labels:        map[string]string{corev1.LabelHostname: "node", corev1.LabelArchStable: "amd64", corev1.LabelOSStable: "linux"},
		ManagedFields: []metav1.ManagedFieldsEntry{managed("kubelet", ""), managed("kubelet", "status")}}}
	for _, c := range []corev1.NodeConditionType{corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure, corev1.NodeReady} {
		n.Status.Conditions = append(n.Status.Conditions, corev1.NodeCondition{Type: c, Status: corev1.ConditionFalse,
			LastHeartbeatTime: metav1.Now(), LastTransitionTime: born, Reason: "KubeletHas", Message: "kubelet has sufficient of it"})
	}
	n.Status.Capacity = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("8Gi"), corev1.ResourcePods: resource.MustParse("110")}
	n.Status.Allocatable = n.Status.Capacity
	for i := range 20 {
		image := container(fmt.Sprint("image-", i)).Image
		n.Status.Images = append(n.Status.Images, corev1.ContainerImage{Names: []string{image, image + "@sha256:" + fmt.Sprintf("%064x", i)}, SizeBytes: 50_000_000})
	}
	value, _ := n.Marshal() // into memory that it has measured: it cannot fail
	return value
}
