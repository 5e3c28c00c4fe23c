package agent

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The Lease says that the node is alive; 40 seconds after the last renewal the
// control plane counts it as lost.
const (
	leaseDuration = 40 * time.Second
	leaseRenewal  = 10 * time.Second
)

// runLease renews the node's Lease once the Node exists.
func (a *Agent) runLease(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-a.registered:
	}
	var lease *coordinationv1.Lease
	away := false // the last renewal failed
	delay := newRetry(200*time.Millisecond, 7*time.Second)
	for {
		if a.own.dismissed() { // the Lease went with the Node
			lease = nil
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(leaseRenewal):
			}
			continue
		}
		renewed, err := a.renewLease(ctx, lease)
		if err != nil {
			// What is known of it may be old: read it anew.
			lease, away = nil, true
			a.log.Debug("renew lease", zap.Error(err))
			if !delay.wait(ctx) {
				return nil
			}
			continue
		}
		lease = renewed
		if away {
			a.pokeNode() // it may be Unknown by now
		}
		away = false
		delay.reset()
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(leaseRenewal):
		}
	}
}

// renewLease writes the Lease; with none at hand it reads or creates it.
func (a *Agent) renewLease(ctx context.Context, lease *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	ctx, cancel := context.WithTimeout(ctx, leaseRenewal) // an answer that comes later than the next turn is none
	defer cancel()
	leases := a.Client.CoordinationV1().Leases(corev1.NamespaceNodeLease)
	var err error
	if lease == nil {
		lease, err = leases.Get(ctx, a.NodeName, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			lease = &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: a.NodeName, Namespace: corev1.NamespaceNodeLease}}
			a.fillLease(lease)
			if lease, err = leases.Create(ctx, lease, metav1.CreateOptions{}); err != nil {
				return nil, fmt.Errorf("create lease %s: %w", a.NodeName, err)
			}
			return lease, nil
		}
		if err != nil {
			return nil, fmt.Errorf("get lease %s: %w", a.NodeName, err)
		}
	}
	lease = lease.DeepCopy()
	a.fillLease(lease)
	if lease, err = leases.Update(ctx, lease, metav1.UpdateOptions{}); err != nil {
		return nil, fmt.Errorf("update lease %s: %w", a.NodeName, err)
	}
	return lease, nil
}

func (a *Agent) fillLease(lease *coordinationv1.Lease) {
	now, seconds := metav1.NewMicroTime(a.now()), int32(leaseDuration/time.Second)
	lease.Spec.HolderIdentity = &a.NodeName
	lease.Spec.LeaseDurationSeconds = &seconds
	lease.Spec.RenewTime = &now
	if uid := a.nodeUID.Load(); uid != nil {
		lease.OwnerReferences = []metav1.OwnerReference{{
			APIVersion: "v1", Kind: "Node", Name: a.NodeName, UID: *uid,
		}}
	}
}
