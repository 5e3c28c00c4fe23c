package node

import (
	"context"
	"fmt"
	"net/netip"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
)

// followPodCIDRs tells the network the node's share of the Pod range whenever
// the Node has one.
func (n *node) followPodCIDRs(ctx context.Context) error {
	factory := informers.NewSharedInformerFactoryWithOptions(n.client, 0,
		informers.WithTweakListOptions(func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, n.Settings.NodeName).String()
		}))
	failed := make(chan error, 1)
	note := func(obj any) {
		if err := n.setPodCIDRs(obj.(*corev1.Node)); err != nil {
			select {
			case failed <- err:
			default:
			}
		}
	}
	_, err := factory.Core().V1().Nodes().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    note,
		UpdateFunc: func(_, obj any) { note(obj) },
	})
	if err != nil {
		return fmt.Errorf("follow Node: %w", err)
	}
	factory.StartWithContext(ctx)
	defer factory.Shutdown()
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}

func (n *node) setPodCIDRs(node *corev1.Node) error {
	if len(node.Spec.PodCIDRs) == 0 {
		return nil
	}
	var prefixes []netip.Prefix
	for _, text := range node.Spec.PodCIDRs {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			n.Log.Error("range of Pod addresses not understood", zap.String("podCIDR", text), zap.Error(err))
			return nil
		}
		prefixes = append(prefixes, p)
	}
	n.policy.SetPodCIDRs(prefixes)
	if err := n.network.SetPodCIDRs(prefixes); err != nil {
		return fmt.Errorf("prepare Pod network: %w", err)
	}
	return nil
}
