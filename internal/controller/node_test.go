package controller_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skiff-sh/skiff/internal/api"
	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
)

// machine stands in for a node: it renews its Lease, says of Pods that they run
// and are ready (those of an image "bad:…" never become so), and ends those that
// are deleted.
type machine struct {
	*plane
	name   string
	silent atomic.Bool // cut off: it neither says nor does anything

	mu        sync.Mutex
	addresses map[types.UID]string
}

// address returns a Pod's, the same each time.
func (m *machine) address(pod *corev1.Pod) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.addresses[pod.UID] == "" {
		n := len(m.addresses)
		m.addresses[pod.UID] = fmt.Sprintf("10.42.%d.%d", n/250, n%250+1)
	}
	return m.addresses[pod.UID]
}

func (p *plane) machine(name string) *machine {
	p.Helper()
	m := &machine{plane: p, name: name, addresses: map[types.UID]string{}}
	p.create(&corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}},
		Status: corev1.NodeStatus{Allocatable: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("8"), corev1.ResourceMemory: resource.MustParse("16Gi"), corev1.ResourcePods: resource.MustParse("500"),
		}},
	})
	p.create(&coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: corev1.NamespaceNodeLease}})
	m.post(corev1.ConditionTrue)
	p.group.Go(m.beat)
	p.watch(kind.Pod, func(e state.Event) {
		pod := e.Object.(*corev1.Pod)
		if e.Type != state.Deleted && pod.Spec.NodeName == name && !m.silent.Load() {
			m.work(pod)
		}
	})
	p.settle()
	return m
}

// post says whether the node is ready.
func (m *machine) post(ready corev1.ConditionStatus) {
	m.Helper()
	req := m.to(kind.Node, m.name)
	req.Subresource = "status"
	_, err := m.env.API.Modify(m.ctx, req, func(obj kind.Object) error {
		node := obj.(*corev1.Node)
		node.Status.Allocatable = corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("8"), corev1.ResourceMemory: resource.MustParse("16Gi"), corev1.ResourcePods: resource.MustParse("500"),
		}
		node.Status.Conditions = []corev1.NodeCondition{{
			Type: corev1.NodeReady, Status: ready, LastHeartbeatTime: kind.Now(), LastTransitionTime: kind.Now(), Reason: "KubeletReady",
		}}
		return nil
	})
	m.must(err)
	m.settle()
}

func (m *machine) beat() error {
	ticker := time.NewTicker(10 * time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-m.ctx.Done():
			return nil
		case <-ticker.C:
		}
		if m.silent.Load() {
			continue
		}
		req := m.to(kind.Lease, m.name)
		req.Namespace = corev1.NamespaceNodeLease
		if _, err := m.env.API.Modify(m.ctx, req, func(obj kind.Object) error {
			obj.(*coordinationv1.Lease).Spec.RenewTime = &metav1.MicroTime{Time: time.Now()}
			return nil
		}); err != nil && m.ctx.Err() == nil {
			return fmt.Errorf("renew lease: %w", err)
		}
	}
}

func (m *machine) work(pod *corev1.Pod) {
	req := api.Request{FieldManager: "node", Kind: kind.Pod, Namespace: pod.Namespace, Name: pod.Name}
	switch {
	case pod.DeletionTimestamp != nil:
		now := int64(0)
		_, _, _ = m.env.API.Delete(m.ctx, req, metav1.DeleteOptions{GracePeriodSeconds: &now, Preconditions: &metav1.Preconditions{UID: &pod.UID}})
	case pod.Status.Phase == corev1.PodPending:
		req.Subresource = "status"
		ready := corev1.ConditionTrue
		if strings.HasPrefix(pod.Spec.Containers[0].Image, "bad") {
			ready = corev1.ConditionFalse
		}
		_, _ = m.env.API.Modify(m.ctx, req, func(obj kind.Object) error {
			live := obj.(*corev1.Pod)
			if live.Status.Phase != corev1.PodPending {
				return nil
			}
			live.Status.Phase = corev1.PodRunning
			live.Status.PodIP = m.address(live)
			live.Status.PodIPs = []corev1.PodIP{{IP: live.Status.PodIP}}
			live.Status.Conditions = append(live.Status.Conditions, corev1.PodCondition{
				Type: corev1.PodReady, Status: ready, LastTransitionTime: kind.Now(),
			})
			return nil
		})
	}
}
