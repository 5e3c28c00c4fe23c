package agent

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

// pods are the workers of a node, and the containers found at the start that
// wait for theirs.
type pods struct {
	wg sync.WaitGroup

	mu      sync.Mutex
	workers map[string]*worker // by Pod UID
	left    map[string][]ContainerState
	known   bool // all Pods of the first list have their workers
}

// runPods watches the Pods bound to this node and keeps a worker for each.
func (a *Agent) runPods(ctx context.Context) error {
	defer a.pods.wg.Wait()
	if !a.findLeft(ctx) {
		return nil
	}
	// Before anything is taken for left over; runStatics tries again what fails.
	_, _ = a.hireStatics(ctx)
	a.pods.wg.Go(func() { _ = a.runStatics(ctx) })
	store, controller := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: a.podListWatch(),
		ObjectType:    &corev1.Pod{},
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc: func(obj any) { a.assign(ctx, obj.(*corev1.Pod)) },
			UpdateFunc: func(old, obj any) {
				if was, is := old.(*corev1.Pod), obj.(*corev1.Pod); was.UID != is.UID {
					a.dismiss(string(was.UID))
				}
				a.assign(ctx, obj.(*corev1.Pod))
			},
			DeleteFunc: func(obj any) {
				if last, ok := obj.(cache.DeletedFinalStateUnknown); ok {
					obj = last.Obj
				}
				if pod, ok := obj.(*corev1.Pod); ok && !a.statics.saw(pod, true) {
					a.dismiss(string(pod.UID))
				}
			},
		},
	})
	a.pods.wg.Go(func() {
		select {
		case <-ctx.Done():
		case <-controller.HasSyncedChecker().Done():
			a.allKnown(ctx, store.List)
			// What ended between the first list and the first Follow is
			// known now at the latest.
			a.catchUp(ctx)
			a.clean(ctx, store.List)
		}
	})
	controller.RunWithContext(ctx)
	return nil
}

// allKnown begins to give Pods more than they have, once everybody has a worker who
// has the rest: the last one listed may be on its way to it.
func (a *Agent) allKnown(ctx context.Context, listed func() []any) {
	a.pods.mu.Lock()
	defer a.pods.mu.Unlock()
	for _, obj := range listed() {
		pod := obj.(*corev1.Pod)
		_, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]
		if pod.Spec.NodeName == a.NodeName && !mirror && a.pods.workers[string(pod.UID)] == nil {
			a.hire(ctx, pod)
		}
	}
	a.pods.known = true
	a.allocate()
}

// findLeft reads which containers run already. It returns false if the context
// ended first.
func (a *Agent) findLeft(ctx context.Context) bool {
	delay := newRetry(100*time.Millisecond, 10*time.Second)
	for {
		states, err := a.Runtime.List(ctx)
		a.setRuntimeErr(err)
		if err == nil {
			a.pods.mu.Lock()
			for _, s := range states {
				a.pods.left[s.Pod.UID] = append(a.pods.left[s.Pod.UID], s)
				if s.Phase == ContainerRunning {
					a.Logs.Add(s.ID, s.LogPath)
				}
			}
			a.pods.mu.Unlock()
			return true
		}
		a.log.Warn("list containers: the container runtime does not answer; retrying", zap.Error(err))
		if !delay.wait(ctx) {
			return false
		}
	}
}

func (a *Agent) podListWatch() cache.ListerWatcher {
	client := a.Client.CoreV1().Pods(metav1.NamespaceAll)
	return cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
			opts.FieldSelector = a.mine()
			return client.List(ctx, opts)
		},
		WatchFuncWithContext: func(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
			opts.FieldSelector = a.mine()
			return client.Watch(ctx, opts)
		},
	}, a.Client)
}

// assign gives a Pod to its worker, made if need be.
func (a *Agent) assign(ctx context.Context, pod *corev1.Pod) {
	if pod.Spec.NodeName != a.NodeName {
		return // a server that does not know the field selector
	}
	if a.statics.saw(pod, false) {
		return // it only shows what a file describes
	}
	a.pods.mu.Lock()
	defer a.pods.mu.Unlock()
	uid := string(pod.UID)
	if w := a.pods.workers[uid]; w != nil {
		w.set(pod)
	} else {
		a.hire(ctx, pod)
	}
	a.allocate()
}

// hire makes and starts a worker; a.pods.mu is held.
func (a *Agent) hire(ctx context.Context, pod *corev1.Pod) *worker {
	uid := string(pod.UID)
	w := a.newWorker(pod, a.pods.left[uid])
	delete(a.pods.left, uid)
	a.pods.workers[uid] = w
	a.admit(w)
	if w.refused != "" {
		w.eventPod(corev1.EventTypeWarning, reasonUnsupported, "%s", w.refused)
	}
	a.pods.wg.Go(func() {
		w.run(ctx)
		defer a.statics.poke() // one may wait for the name
		a.pods.mu.Lock()
		defer a.pods.mu.Unlock()
		if a.pods.workers[uid] == w {
			delete(a.pods.workers, uid)
		}
		if ctx.Err() == nil { // at the agent's end the Pods go on, and keep what they have
			a.allocate()
		}
	})
	return w
}

func (a *Agent) dismiss(uid string) {
	if w := a.worker(uid); w != nil {
		w.vanish()
	}
}

func (a *Agent) worker(uid string) *worker {
	a.pods.mu.Lock()
	defer a.pods.mu.Unlock()
	return a.pods.workers[uid]
}

// workerOf finds a Pod's worker by name; of two of that name the one that is
// not gone.
func (a *Agent) workerOf(namespace, name string) *worker {
	a.pods.mu.Lock()
	defer a.pods.mu.Unlock()
	var found *worker
	for _, w := range a.pods.workers {
		if w.reference.Namespace == namespace && w.reference.Name == name {
			w.mu.Lock()
			gone := w.gone
			w.mu.Unlock()
			if found == nil || !gone {
				found = w
			}
		}
	}
	return found
}

// clean ends what is left of Pods that the API does not know any more, once
// everything it knows has been seen. The server is asked itself: what the watch
// brought may be what was remembered from a time before these Pods.
func (a *Agent) clean(ctx context.Context, watched func() []any) {
	known := a.askPods(ctx)
	if known == nil {
		return
	}
	for _, obj := range watched() {
		known = append(known, *obj.(*corev1.Pod))
	}
	keep := map[string]bool{}
	var uids []string
	for i := range known {
		if uid := string(known[i].UID); !keep[uid] {
			keep[uid] = true
			uids = append(uids, uid)
		}
	}
	a.pods.mu.Lock()
	for uid := range a.pods.workers {
		if !keep[uid] {
			keep[uid] = true
			uids = append(uids, uid)
		}
	}
	for uid, states := range a.pods.left {
		if !keep[uid] {
			keep[uid] = true
			uids = append(uids, uid) // its worker detaches it
			w := a.hire(ctx, orphan(uid, states))
			w.vanish()
		}
	}
	a.pods.mu.Unlock()
	if err := a.Network.Retain(ctx, uids); err != nil {
		a.log.Warn("free addresses of former pods", zap.Error(err))
	}
	if err := a.removeFormerLogs(keep); err != nil {
		a.log.Warn("remove logs of former pods", zap.Error(err))
	}
	for _, list := range []func() ([]string, error){a.volumes.UIDs, a.Cgroups.UIDs} {
		found, err := list()
		if err != nil {
			a.log.Warn("look for leftovers of former pods", zap.Error(err))
		}
		for _, uid := range found {
			if keep[uid] || a.worker(uid) != nil {
				continue
			}
			keep[uid] = true
			if err := a.tearDown(ctx, uid); err != nil {
				a.log.Warn("remove leftovers of a former pod", zap.String("uid", uid), zap.Error(err))
			}
		}
	}
}

// askPods lists the Pods bound to this node. It waits for a server, and returns
// nil if the context ends first.
func (a *Agent) askPods(ctx context.Context) []corev1.Pod {
	delay := newRetry(500*time.Millisecond, 10*time.Second)
	for {
		list, err := a.Client.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{FieldSelector: a.mine()})
		if err == nil {
			return append([]corev1.Pod{}, list.Items...)
		}
		a.log.Debug("list pods of this node", zap.Error(err))
		if !delay.wait(ctx) {
			return nil
		}
	}
}

// mine selects the Pods bound to this node.
func (a *Agent) mine() string {
	return fields.OneTermEqualSelector("spec.nodeName", a.NodeName).String()
}

// orphan stands in for a Pod of which only containers are left.
func orphan(uid string, states []ContainerState) *corev1.Pod {
	pod := &corev1.Pod{}
	pod.UID = types.UID(uid)
	seen := map[string]bool{}
	for _, s := range states {
		pod.Namespace, pod.Name = s.Pod.Namespace, s.Pod.Name
		if !seen[s.Name] {
			seen[s.Name] = true
			pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: s.Name, Image: s.ImageRef})
		}
	}
	return pod
}

// runFollow passes what happens to containers to their workers. While the
// runtime does not answer, the node is not ready.
func (a *Agent) runFollow(ctx context.Context) error {
	delay := newRetry(100*time.Millisecond, 10*time.Second)
	for {
		err := a.Runtime.Follow(ctx, func(s ContainerState) {
			delay.reset()
			if w := a.worker(s.Pod.UID); w != nil {
				w.observe(s)
			}
			if s.Phase == ContainerExited {
				a.Logs.Remove(s.ID)
			}
		})
		if ctx.Err() != nil {
			return nil
		}
		a.setRuntimeErr(err)
		a.log.Warn("follow containers: the container runtime went away; retrying", zap.Error(err))
		if !delay.wait(ctx) {
			return nil
		}
		a.catchUp(ctx)
	}
}

// catchUp tells workers what they may have missed.
func (a *Agent) catchUp(ctx context.Context) {
	states, err := a.Runtime.List(ctx)
	a.setRuntimeErr(err)
	for _, s := range states {
		if w := a.worker(s.Pod.UID); w != nil {
			w.observe(s)
		}
	}
}

func (a *Agent) setRuntimeErr(err error) {
	old := a.runtimeErr.Load()
	if err == nil {
		a.runtimeErr.Store(nil)
	} else {
		a.runtimeErr.Store(&err)
	}
	if (old == nil) != (err == nil) {
		a.pokeNode()
	}
}
