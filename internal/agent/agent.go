package agent

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	events "k8s.io/client-go/tools/record"

	"github.com/skiff-sh/skiff/internal/agent/volume"
	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/userns"
)

// Agent runs the Pods of one node. Make it with New.
type Agent struct {
	Config
	log       *zap.Logger
	machine   Description
	objects   *volume.Objects
	volumes   *volume.Volumes
	users     *userns.Ranges
	recorder  events.EventRecorder
	announcer events.EventBroadcaster
	listener  net.Listener
	pods      pods
	statics   *statics

	registered  chan struct{} // closed once the Node exists
	nodeChanged chan struct{}
	own         ownNode
	seen        chan struct{} // has one when own may be other than before
	nodeUID     atomic.Pointer[types.UID]
	images      atomic.Pointer[[]corev1.ContainerImage]
	addresses   atomic.Pointer[[]netip.Addr] // nil: NodeIPs
	runtimeErr  atomic.Pointer[error]        // why the node is not ready
	skew        skew                         // what the Node says of the clock; for who writes it
	panics      atomic.Int64                 // recovered in workers
	relief      relief
	imageUses   imageUses
	dead        deadCollection
	goesDown    atomic.Bool // the machine
	rates       rates
	durations   durations
	access      access
}

// New makes an Agent. It looks at the machine, makes the root of the Pods'
// cgroups and opens the node API's port, but does nothing else before Run.
func New(c Config) (*Agent, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	var err error
	if c.Kubelet.EvictionHard == nil {
		c.Kubelet = config.DefaultKubelet()
	}
	if c.Ground, err = c.Ground.complete(c); err != nil {
		return nil, err
	}
	a := &Agent{
		Config: c, log: c.Log, durations: newDurations(),
		objects:     volume.NewObjects(c.Client),
		registered:  make(chan struct{}),
		nodeChanged: make(chan struct{}, 1),
		seen:        make(chan struct{}, 1),
		pods:        pods{workers: map[string]*worker{}, left: map[string][]ContainerState{}},
	}
	if a.machine, err = c.Machine.Describe(); err != nil {
		return nil, err
	}
	if c.Kubelet.Swap.FailOn && a.machine.Info.Swap != nil {
		return nil, errSwap
	}
	a.machine.Capacity[corev1.ResourcePods] = *resource.NewQuantity(int64(c.Kubelet.Pods.Max), resource.DecimalSI)
	a.machine.Reserved = reserved(c.Kubelet, a.machine.Capacity)
	if err := a.enforce(); err != nil {
		return nil, err
	}
	a.machine.Info.KubeletVersion, a.machine.Info.ContainerRuntimeVersion = c.Version, c.Runtime.Version()
	a.volumes = volume.New(volume.Config{
		Client: c.Client, Objects: a.objects, Root: a.podDir(""), Disk: c.Disk,
		Allocatable: a.machine.allocatable(), Log: c.Log, Changed: a.objectChanged,
	})
	if a.users, err = userns.Open(a.podDir("")); err != nil {
		return nil, err
	}
	// Ask for the informer now, so that Start begins it.
	c.Informers.Core().V1().Services().Informer()
	a.announcer = events.NewBroadcaster()
	a.recorder = a.announcer.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "kubelet", Host: c.NodeName})
	a.statics = newStatics(a)
	if a.listener = c.Listener; c.Listen != "" && a.listener == nil {
		if a.listener, err = net.Listen("tcp", c.Listen); err != nil {
			return nil, fmt.Errorf("open the node API's port: %w; is another node running on this machine?", err)
		}
	}
	return a, nil
}

// Run runs the node until the context ends; its Pods go on. It does not end
// because the API server or the runtime is away.
func (a *Agent) Run(ctx context.Context) error {
	recording := a.announcer.StartRecordingToSink(sink{
		EventSink: &typedcorev1.EventSinkImpl{Interface: a.Client.CoreV1().Events("")}, time: a.Time, done: ctx.Done(),
	})
	defer a.announcer.Shutdown()
	defer recording.Stop()
	g, ctx := errgroup.WithContext(ctx)
	a.Informers.Start(ctx.Done())
	g.Go(func() error { return a.objects.Run(ctx) })
	g.Go(func() error { return a.volumes.Run(ctx) })
	g.Go(func() error { return a.Logs.Run(ctx) })
	g.Go(func() error { return a.runFollow(ctx) })
	g.Go(func() error { return a.runPods(ctx) })
	g.Go(func() error { a.watchStatics(ctx); return nil })
	g.Go(func() error { return a.followNode(ctx) })
	g.Go(func() error { return a.runNode(ctx) })
	g.Go(func() error { return a.runLease(ctx) })
	g.Go(func() error { return a.runClock(ctx) })
	g.Go(func() error { a.watchMemory(ctx); return nil })
	g.Go(func() error { a.watchShutdown(ctx); return nil })
	if a.listener != nil {
		g.Go(func() error { return a.serve(ctx) })
	}
	return g.Wait()
}

// objectChanged wakes the Pods that may have waited for a ConfigMap or Secret.
func (a *Agent) objectChanged(r volume.Ref) {
	a.pods.mu.Lock()
	defer a.pods.mu.Unlock()
	for _, w := range a.pods.workers {
		if w.reference.Namespace == r.Namespace {
			w.retryNow(r)
		}
	}
}

// servicesSynced is closed once the Services have been read.
func (a *Agent) servicesSynced() <-chan struct{} {
	return a.Informers.Core().V1().Services().Informer().HasSyncedChecker().Done()
}
