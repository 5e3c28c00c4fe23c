package containerd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/version"
	"go.uber.org/zap"
	"golang.org/x/sync/singleflight"

	"github.com/skiff-sh/skiff/internal/agent"
	"github.com/skiff-sh/skiff/internal/config"
)

// Config is what a Runtime needs to open.
type Config struct {
	Host    config.Host
	Address string // socket of a containerd daemon; "" for containerd in this process
	Runc    string // path of the OCI runtime
	// Handlers is optional: paths of other OCI runtimes, by the names that Pods ask
	// for them by.
	Handlers map[string]string
	Shim     string // path of skiff-shim
	Log      *zap.Logger
}

// Runtime runs the containers of one node. It implements agent.Runtime.
type Runtime struct {
	config    Config
	machine   machine
	appArmor  *appArmor
	store     *store
	namespace string
	boot      string // this boot of the machine
	version   string
	execs     sequence
	turns     chan struct{} // has one for each container that is being made
	ends      *ends         // of containers' processes

	ended  context.Context // of followers of containers and shims
	cancel context.CancelFunc
	tasks  sync.WaitGroup

	mu         sync.Mutex // of the maps, and of the entries' states
	containers map[string]*entry
	pods       map[string]*pod
	removals   map[string]chan struct{} // Pods being removed, until they are
	watchers   map[*watcher]struct{}
	closed     bool
	spare      *pod          // a shim for the next Pod, nil if there is none
	sparing    chan struct{} // closed when it is made; nil: nobody makes one

	starts singleflight.Group // of shims, by Pod
}

var _ agent.Runtime = (*Runtime)(nil)

// entry is what is known of one container.
type entry struct {
	op       sync.Mutex // one change of a container at a time
	state    agent.ContainerState
	made     bool // Create has returned: it may be listed
	removing bool // its files may be missing
	shim     *pod // which looks after it; set when its end is waited for
}

// IsExist tells whether Create refused an ID that is taken.
func IsExist(err error) bool { return errors.Is(err, fs.ErrExist) }

// Open starts containerd in this process, or connects to a daemon, adopts the
// containers that run and removes what a killed skiff left half-made. The
// caller closes the Runtime; its containers run on.
func Open(ctx context.Context, c Config) (*Runtime, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, err
	}
	if err := routeLog(c.Log); err != nil {
		return nil, err
	}
	r := &Runtime{
		config: c, turns: newTurns(), machine: inspectMachine(), appArmor: inspectAppArmor(), boot: strings.TrimSpace(string(boot)),
		// A daemon is shared: nodes with other data directories have other names.
		namespace:  c.Host.Table,
		containers: map[string]*entry{}, pods: map[string]*pod{}, removals: map[string]chan struct{}{}, watchers: map[*watcher]struct{}{},
	}
	r.ended, r.cancel = context.WithCancel(context.Background())
	if err := makeDirs(r.dataDir(), r.podsDir(), r.runcDir()); err != nil {
		return nil, fmt.Errorf("make directories of the container runtime: %w", err)
	}
	if c.Address == "" {
		r.store, err = openStore(r.scope(ctx), r.dataDir(), c.Log)
		r.version = strings.TrimSuffix(version.Version, "+unknown")
	} else {
		r.store, err = dialStore(r.scope(ctx), c.Address)
	}
	if err != nil {
		return nil, err
	}
	if c.Address != "" {
		r.version = daemonVersion(r.scope(ctx), r.store.client)
	}
	if r.ends, err = newEnds(); err != nil {
		return nil, errors.Join(err, r.store.close())
	}
	r.tasks.Go(r.ends.run)
	if err := r.adopt(r.scope(ctx)); err != nil {
		return nil, errors.Join(fmt.Errorf("adopt containers: %w", err), r.Close())
	}
	return r, nil
}

func daemonVersion(ctx context.Context, c *client.Client) string {
	v, err := c.Version(ctx)
	if err != nil {
		return "unknown"
	}
	return strings.TrimPrefix(v.Version, "v")
}

// Close lets go of the containers, which run on. It may be called twice.
func (r *Runtime) Close() error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil
	}
	r.closed = true
	pods, spare := r.pods, r.spare
	r.pods, r.spare = map[string]*pod{}, nil
	r.mu.Unlock()

	left := r.removeSpare(spare)
	r.cancel()
	for _, p := range pods {
		p.disconnect()
	}
	left = errors.Join(left, r.ends.close())
	r.tasks.Wait()
	return errors.Join(left, r.store.close())
}

// Client is containerd's client interface, for the images.
func (r *Runtime) Client() *client.Client { return r.store.client }

// Snapshotter is the name of the snapshotter in which images are unpacked.
func (r *Runtime) Snapshotter() string { return r.store.snapshotter }

// Namespace is the containerd namespace that holds everything of this node.
func (r *Runtime) Namespace() string { return r.namespace }

// Version implements agent.Runtime.
func (r *Runtime) Version() string { return "containerd://" + r.version }

// scope gives a context the node's containerd namespace.
func (r *Runtime) scope(ctx context.Context) context.Context {
	return namespaces.WithNamespace(ctx, r.namespace)
}

func (r *Runtime) dataDir() string {
	return filepath.Join(r.config.Host.DataDir, "agent", "containerd")
}
func (r *Runtime) podsDir() string { return filepath.Join(r.config.Host.RunDir, "containerd", "pods") }
func (r *Runtime) runcDir() string { return filepath.Join(r.config.Host.RunDir, "containerd", "runc") }

func (r *Runtime) podDir(uid string) string { return filepath.Join(r.podsDir(), uid) }

func (r *Runtime) bundle(podUID, id string) string { return filepath.Join(r.podDir(podUID), id) }

// List implements agent.Runtime. The order is by time of creation.
func (r *Runtime) List(context.Context) ([]agent.ContainerState, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []agent.ContainerState
	for _, e := range r.containers {
		if e.made {
			all = append(all, e.state)
		}
	}
	slices.SortFunc(all, func(a, b agent.ContainerState) int { return a.CreatedAt.Compare(b.CreatedAt) })
	return all, nil
}

// State implements agent.Runtime.
func (r *Runtime) State(_ context.Context, id string) (agent.ContainerState, bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, ok := r.containers[id]
	if !ok || !e.made {
		return agent.ContainerState{}, false, nil
	}
	return e.state, true, nil
}

// find returns the entry of a container that Create has made.
func (r *Runtime) find(id string) (*entry, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e, ok := r.containers[id]; ok && e.made {
		return e, nil
	}
	return nil, fmt.Errorf("container %s: %w", id, fs.ErrNotExist)
}

// now is the time as it is written: without a monotonic part, so that states
// compare equal across restarts.
func now() time.Time { return time.Now().Round(0) }
