package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"
)

// evictAgain is how long to wait when a Pod may not go yet and the server does
// not say how long.
const evictAgain = 5 * time.Second

// drain empties a node of its Pods, as kubectl drain does: DaemonSets' and mirror
// Pods stay, they end with the node.
type drain struct {
	client kubernetes.Interface
	node   string
	force  bool // Pods too that nothing makes anew elsewhere
	say    func(format string, args ...any)
}

// run returns when the Pods are gone, or with what stands in the way. The node
// takes no new Pods from then on.
func (d drain) run(ctx context.Context) error {
	if err := d.cordon(ctx); err != nil {
		return err
	}
	all, err := d.list(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list the node's Pods: %w", err)
	}
	going, err := plan(all.Items, d.force)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	failed := make([]error, len(going))
	for i := range going {
		wg.Go(func() { failed[i] = d.evict(ctx, &going[i]) })
	}
	wg.Wait()
	if err := errors.Join(failed...); err != nil {
		return err
	}
	return d.awaitEnd(ctx, going)
}

// plan returns the Pods that have to go, or an error that names those that
// nothing would make anew.
func plan(pods []corev1.Pod, force bool) (going []corev1.Pod, err error) {
	var lost []string
	for _, p := range pods {
		switch {
		case stays(&p):
			continue
		case !force && !replaced(&p):
			lost = append(lost, p.Namespace+"/"+p.Name)
		}
		going = append(going, p)
	}
	if len(lost) == 0 {
		return going, nil
	}
	slices.Sort(lost)
	return nil, fmt.Errorf("no controller would start these Pods elsewhere: %s: delete them, or lose them with --force", strings.Join(lost, ", "))
}

// stays says whether a Pod belongs to the node: of a DaemonSet, or a mirror.
func stays(p *corev1.Pod) bool {
	_, mirror := p.Annotations[corev1.MirrorPodAnnotationKey]
	owner := metav1.GetControllerOfNoCopy(p)
	return mirror || owner != nil && owner.Kind == "DaemonSet"
}

// replaced says whether nothing is lost when a Pod goes.
func replaced(p *corev1.Pod) bool {
	over := p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
	return over || p.DeletionTimestamp != nil || metav1.GetControllerOfNoCopy(p) != nil
}

func (d drain) cordon(ctx context.Context) error {
	patch := []byte(`{"spec":{"unschedulable":true}}`)
	_, err := d.client.CoreV1().Nodes().Patch(ctx, d.node, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return fmt.Errorf("cordon node %s: %w", d.node, err)
	}
	d.say("node/%s cordoned", d.node)
	return nil
}

// evict asks for a Pod's end until it is granted.
func (d drain) evict(ctx context.Context, p *corev1.Pod) error {
	if p.DeletionTimestamp != nil {
		return nil
	}
	d.say("evicting pod %s/%s", p.Namespace, p.Name)
	for {
		err := d.client.PolicyV1().Evictions(p.Namespace).Evict(ctx, &policyv1.Eviction{
			ObjectMeta:    metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name},
			DeleteOptions: &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &p.UID}},
		})
		switch {
		case err == nil, apierrors.IsNotFound(err), apierrors.IsConflict(err): // gone, or another Pod of the name
			return nil
		case !apierrors.IsTooManyRequests(err):
			return fmt.Errorf("evict pod %s/%s: %w", p.Namespace, p.Name, err)
		}
		d.say("pod %s/%s may not go yet: %v", p.Namespace, p.Name, err)
		timer := time.NewTimer(delayOf(err))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("evict pod %s/%s: %w", p.Namespace, p.Name, context.Cause(ctx))
		}
	}
}

func delayOf(err error) time.Duration {
	if seconds, ok := apierrors.SuggestsClientDelay(err); ok {
		return time.Duration(seconds) * time.Second
	}
	return evictAgain
}

// awaitEnd waits until none of the Pods is left.
func (d drain) awaitEnd(ctx context.Context, going []corev1.Pod) error {
	left := map[types.UID]string{}
	for i := range going {
		left[going[i].UID] = going[i].Namespace + "/" + going[i].Name
	}
	gone := func(p *corev1.Pod) {
		if name, ok := left[p.UID]; ok {
			delete(left, p.UID)
			d.say("pod %s gone", name)
		}
	}
	prune := func(store cache.Store) (bool, error) {
		there := map[types.UID]bool{}
		for _, obj := range store.List() {
			there[obj.(*corev1.Pod).UID] = true
		}
		for i := range going {
			if !there[going[i].UID] {
				gone(&going[i])
			}
		}
		return len(left) == 0, nil
	}
	_, err := watchtools.UntilWithSync(ctx, d.watched(), &corev1.Pod{}, prune, func(e watch.Event) (bool, error) {
		if p, ok := e.Object.(*corev1.Pod); ok && e.Type == watch.Deleted {
			gone(p)
		}
		return len(left) == 0, nil
	})
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("wait for the end of %s: %w", strings.Join(slices.Sorted(maps.Values(left)), ", "), err)
	}
	return nil
}

func (d drain) list(ctx context.Context, o metav1.ListOptions) (*corev1.PodList, error) {
	o.FieldSelector = d.selector()
	return d.client.CoreV1().Pods(metav1.NamespaceAll).List(ctx, o)
}

// selector is of the node's own Pods; a node may see no others.
func (d drain) selector() string {
	return fields.OneTermEqualSelector("spec.nodeName", d.node).String()
}

// watched lists and watches the node's Pods.
func (d drain) watched() cache.ListerWatcher {
	return cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return d.list(ctx, o) },
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = d.selector()
			return d.client.CoreV1().Pods(metav1.NamespaceAll).Watch(ctx, o)
		},
	}, d.client)
}
