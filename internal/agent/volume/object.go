package volume

import (
	"context"
	"fmt"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// Ref names a ConfigMap or Secret.
type Ref struct{ Kind, Namespace, Name string }

// The kinds of Ref.
const (
	ConfigMap = "ConfigMap"
	Secret    = "Secret"
)

// Objects watches single ConfigMaps and Secrets for as long as Pods use them.
// What it returns is shared: copy before change.
type Objects struct {
	client kubernetes.Interface
	ctx    context.Context // ends the watches; they outlive the calls that start them
	cancel context.CancelFunc
	wg     sync.WaitGroup
	notify func(Ref)

	mu      sync.Mutex
	entries map[Ref]*entry
	held    map[string][]Ref // by Pod UID
}

// entry is one watched object.
type entry struct {
	users  int
	cancel context.CancelFunc
	store  cache.Store
	synced <-chan struct{}
}

// NewObjects makes an Objects that reads through client.
func NewObjects(client kubernetes.Interface) *Objects {
	ctx, cancel := context.WithCancel(context.Background())
	return &Objects{client: client, ctx: ctx, cancel: cancel, entries: map[Ref]*entry{}, held: map[string][]Ref{}}
}

func (o *Objects) subscribe(fn func(Ref)) { o.notify = fn }

// Run waits for the context and then ends all watches.
func (o *Objects) Run(ctx context.Context) error {
	<-ctx.Done()
	o.cancel()
	o.wg.Wait()
	return nil
}

// Acquire begins to watch what the Pod refers to. Acquiring again replaces
// what it held.
func (o *Objects) Acquire(pod *corev1.Pod) {
	refs := Refs(pod)
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, r := range refs {
		if e := o.entries[r]; e != nil {
			e.users++
		} else {
			o.entries[r] = o.watch(r)
		}
	}
	o.release(string(pod.UID))
	o.held[string(pod.UID)] = refs
}

// Release ends what the Pod held.
func (o *Objects) Release(podUID string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.release(podUID)
}

func (o *Objects) release(podUID string) {
	for _, r := range o.held[podUID] {
		e := o.entries[r]
		if e.users--; e.users == 0 {
			e.cancel()
			delete(o.entries, r)
		}
	}
	delete(o.held, podUID)
}

// watch starts following one object; o.mu is held.
func (o *Objects) watch(r Ref) *entry {
	ctx, cancel := context.WithCancel(o.ctx)
	changed := func() {
		if o.notify != nil {
			o.notify(r)
		}
	}
	var example runtime.Object = &corev1.ConfigMap{}
	if r.Kind == Secret {
		example = &corev1.Secret{}
	}
	store, controller := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: o.listWatch(r),
		ObjectType:    example,
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    func(any) { changed() },
			UpdateFunc: func(_, _ any) { changed() },
			DeleteFunc: func(any) { changed() },
		},
	})
	o.wg.Go(func() { controller.RunWithContext(ctx) })
	return &entry{users: 1, cancel: cancel, store: store, synced: controller.HasSyncedChecker().Done()}
}

func (o *Objects) listWatch(r Ref) cache.ListerWatcher {
	only := fields.OneTermEqualSelector(metav1.ObjectNameField, r.Name).String()
	core := o.client.CoreV1()
	lw := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
			opts.FieldSelector = only
			if r.Kind == Secret {
				return core.Secrets(r.Namespace).List(ctx, opts)
			}
			return core.ConfigMaps(r.Namespace).List(ctx, opts)
		},
		WatchFuncWithContext: func(ctx context.Context, opts metav1.ListOptions) (watch.Interface, error) {
			opts.FieldSelector = only
			if r.Kind == Secret {
				return core.Secrets(r.Namespace).Watch(ctx, opts)
			}
			return core.ConfigMaps(r.Namespace).Watch(ctx, opts)
		},
	}
	return cache.ToListWatcherWithWatchListSemantics(lw, o.client)
}

// get returns a held object once it has been read; NotFound if there is none.
func (o *Objects) get(ctx context.Context, r Ref) (any, error) {
	o.mu.Lock()
	e := o.entries[r]
	o.mu.Unlock()
	if e == nil {
		return nil, fmt.Errorf("object %q/%q not registered", r.Namespace, r.Name)
	}
	select {
	case <-e.synced:
	case <-ctx.Done():
		return nil, fmt.Errorf("failed to sync %s cache: %w", lower(r.Kind), context.Cause(ctx))
	}
	obj, ok, err := e.store.GetByKey(r.Namespace + "/" + r.Name)
	if err != nil {
		return nil, fmt.Errorf("read %s %s/%s: %w", lower(r.Kind), r.Namespace, r.Name, err)
	}
	if !ok {
		return nil, apierrors.NewNotFound(corev1.Resource(lower(r.Kind)), r.Name)
	}
	return obj, nil
}

func lower(kind string) string {
	if kind == Secret {
		return "secret"
	}
	return "configmap"
}

// ConfigMap returns one that a Pod holds, waiting for its first reading.
func (o *Objects) ConfigMap(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error) {
	obj, err := o.get(ctx, Ref{ConfigMap, namespace, name})
	if err != nil {
		return nil, err
	}
	return obj.(*corev1.ConfigMap), nil
}

// Secret returns one that a Pod holds, waiting for its first reading.
func (o *Objects) Secret(ctx context.Context, namespace, name string) (*corev1.Secret, error) {
	obj, err := o.get(ctx, Ref{Secret, namespace, name})
	if err != nil {
		return nil, err
	}
	return obj.(*corev1.Secret), nil
}

// Refs are all ConfigMaps and Secrets that the Pod names, each once.
func Refs(pod *corev1.Pod) []Ref {
	refs := volumeRefs(pod)
	add := func(kind, name string) {
		if r := (Ref{kind, pod.Namespace, name}); name != "" && !slices.Contains(refs, r) {
			refs = append(refs, r)
		}
	}
	for _, s := range pod.Spec.ImagePullSecrets {
		add(Secret, s.Name)
	}
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			for _, from := range list[i].EnvFrom {
				if from.ConfigMapRef != nil {
					add(ConfigMap, from.ConfigMapRef.Name)
				}
				if from.SecretRef != nil {
					add(Secret, from.SecretRef.Name)
				}
			}
			for _, v := range list[i].Env {
				if v.ValueFrom == nil {
					continue
				}
				if ref := v.ValueFrom.ConfigMapKeyRef; ref != nil {
					add(ConfigMap, ref.Name)
				}
				if ref := v.ValueFrom.SecretKeyRef; ref != nil {
					add(Secret, ref.Name)
				}
			}
		}
	}
	return refs
}

func volumeRefs(pod *corev1.Pod) []Ref {
	var refs []Ref
	add := func(kind, name string) {
		if r := (Ref{kind, pod.Namespace, name}); name != "" && !slices.Contains(refs, r) {
			refs = append(refs, r)
		}
	}
	for i := range pod.Spec.Volumes {
		vol := &pod.Spec.Volumes[i]
		switch {
		case vol.ConfigMap != nil:
			add(ConfigMap, vol.ConfigMap.Name)
		case vol.Secret != nil:
			add(Secret, vol.Secret.SecretName)
		case vol.Projected != nil:
			for _, s := range vol.Projected.Sources {
				if s.ConfigMap != nil {
					add(ConfigMap, s.ConfigMap.Name)
				}
				if s.Secret != nil {
					add(Secret, s.Secret.Name)
				}
			}
		}
	}
	return refs
}
