package agent

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

// ownNode is the newest that is known of this node's own Node. Others write it too,
// so it is watched.
type ownNode struct {
	mu      sync.Mutex   // guards what follows
	newest  *corev1.Node // nil: there is none
	deleted bool         // somebody deleted it while the agent ran
	ranges  []string     // of Pod addresses, as they were told last
}

// see takes what the watch brought or a write was answered with.
func (o *ownNode) see(node *corev1.Node) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.newest == nil || o.newest.UID != node.UID || newer(node.ResourceVersion, o.newest.ResourceVersion) {
		o.newest, o.deleted = node, false
	}
}

// lose takes that a Node is deleted; one that came after it stays. Where that was
// not seen to happen, the store may have been restored to a time before it.
func (o *ownNode) lose(node *corev1.Node, seen bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.newest != nil && o.newest.UID == node.UID {
		o.newest, o.deleted = nil, seen
	}
}

// dismissed says whether somebody has deleted the Node while the agent ran. As
// upstream's, the agent makes it anew only when it starts anew: who deletes a
// Node wants it gone.
func (o *ownNode) dismissed() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.deleted
}

func (o *ownNode) get() *corev1.Node {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.newest
}

// others returns the Node's ranges of Pod addresses where they are others than at
// the last call. A Node that has none yet says nothing of them.
func (o *ownNode) others() ([]string, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.newest == nil || len(o.newest.Spec.PodCIDRs) == 0 || slices.Equal(o.ranges, o.newest.Spec.PodCIDRs) {
		return nil, false
	}
	o.ranges = o.newest.Spec.PodCIDRs
	return o.ranges, true
}

// followNode follows this node's own Node until the context ends. It fails where
// the node's range of Pod addresses is of no use.
func (a *Agent) followNode(ctx context.Context) error {
	failed := make(chan error, 1)
	see := func(obj any) {
		if node := obj.(*corev1.Node); node.Name == a.NodeName {
			a.own.see(node)
			a.nodeSeen()
			if err := a.tellPodCIDRs(); err != nil {
				select {
				case failed <- err:
				default:
				}
			}
		}
	}
	_, controller := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: a.nodeListWatch(),
		ObjectType:    &corev1.Node{},
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    see,
			UpdateFunc: func(_, obj any) { see(obj) },
			DeleteFunc: func(obj any) {
				last, unseen := obj.(cache.DeletedFinalStateUnknown)
				if unseen {
					obj = last.Obj
				}
				if node, ok := obj.(*corev1.Node); ok && node.Name == a.NodeName {
					a.own.lose(node, !unseen)
					a.log.Warn("the Node was deleted", zap.Bool("remade-at-next-start-only", !unseen))
					a.nodeSeen()
				}
			},
		},
	})
	ctx, stop := context.WithCancel(ctx)
	var following sync.WaitGroup
	defer following.Wait()
	defer stop()
	following.Go(func() { controller.RunWithContext(ctx) })
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}

func (a *Agent) nodeListWatch() cache.ListerWatcher {
	nodes := a.Client.CoreV1().Nodes()
	only := fields.OneTermEqualSelector(metav1.ObjectNameField, a.NodeName).String()
	return cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
			opts.FieldSelector = only
			return nodes.List(ctx, opts)
		},
		WatchFuncWithContext: func(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
			opts.FieldSelector = only
			return nodes.Watch(ctx, opts)
		},
	}, a.Client)
}

// nodeSeen has runNode look whether the Node says what it should.
func (a *Agent) nodeSeen() {
	select {
	case a.seen <- struct{}{}:
	default:
	}
}

// tellPodCIDRs tells whoever wants to know the node's share of the Pod range, when
// it is another.
func (a *Agent) tellPodCIDRs() error {
	ranges, changed := a.own.others()
	if !changed || a.PodCIDRs == nil {
		return nil
	}
	var prefixes []netip.Prefix
	for _, text := range ranges {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			a.log.Error("range of Pod addresses not understood", zap.String("podCIDR", text), zap.Error(err))
			return nil
		}
		prefixes = append(prefixes, p)
	}
	if err := a.PodCIDRs(prefixes); err != nil {
		return fmt.Errorf("prepare Pod network: %w", err)
	}
	return nil
}
