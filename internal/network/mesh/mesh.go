// Package mesh leads to the Pods of other nodes: it keeps for each of them one
// way, the best that is known to carry packets.
//
// Mesh follows the Nodes. For each a course decides, pure: a plain route to a
// node on the same link (Direct), a VXLAN tunnel to one behind routers (VXLAN),
// and where neither gets through, as behind a NAT, a link whose packets go by
// way of the servers (Relay). echoes prove a path before Pods' packets take it:
// a route to the peer's own address alone follows the path under test, so that
// the Pods' route changes once and atomically. What all courses decide is a plan,
// and links makes the kernel have it.
//
// The invariant: what the kernel has depends on the Nodes, the machine's own
// routes and what was answered, and on nothing that is kept: routes carry their
// own protocol number (network.MeshRoutes), links are named by config.Host, a
// restart adopts them, and Cleanup finds them. While no server answers, nothing
// is touched. Each node decides for what it sends: two nodes may use different
// ways to each other, so that no link of the mesh minds where a packet comes from.
// Pods' packets are neither translated nor encrypted. The package never looks
// at Pods or Services. IPv4 only, as the cluster's ranges are.
package mesh

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/skiff-sh/skiff/internal/config"
)

// Config is what a node's mesh is made from.
type Config struct {
	Client       kubernetes.Interface
	NodeName     string
	Host         config.Host
	ClusterCIDRs []netip.Prefix // of all Pods
	Packets      Packets        // nil: nothing goes by way of the servers
	Log          *zap.Logger
}

// Mesh connects a node's Pods with those of the other nodes.
type Mesh struct {
	cfg   Config
	pace  pace
	nodes chan struct{} // the Nodes have changed

	mu    sync.Mutex // guards paths
	paths map[string]Path
}

// New returns a mesh that does nothing before Run.
func New(cfg Config) *Mesh {
	return &Mesh{cfg: cfg, pace: usualPace(), nodes: make(chan struct{}, 1)}
}

func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Paths returns which path is in use to each of the other nodes.
func (m *Mesh) Paths() map[string]Path {
	m.mu.Lock()
	defer m.mu.Unlock()
	paths := make(map[string]Path, len(m.paths))
	for name, p := range m.paths {
		paths[name] = p
	}
	return paths
}

// Run keeps the ways to the other nodes until the context ends. Links and routes
// stay when it does. It waits for this node's share of the Pod range and for
// another node, and starts over when the share changes.
func (m *Mesh) Run(ctx context.Context) error {
	factory := informers.NewSharedInformerFactoryWithOptions(m.cfg.Client, 0, informers.WithTransform(strip))
	nodes := factory.Core().V1().Nodes()
	registration, err := nodes.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { poke(m.nodes) },
		UpdateFunc: func(before, after any) {
			if !same(before.(*corev1.Node), after.(*corev1.Node)) {
				poke(m.nodes)
			}
		},
		DeleteFunc: func(any) { poke(m.nodes) },
	})
	if err != nil {
		return fmt.Errorf("follow Nodes: %w", err)
	}
	factory.StartWithContext(ctx)
	defer factory.Shutdown()
	select {
	case <-ctx.Done():
		return nil
	case <-registration.HasSyncedChecker().Done():
	}
	list := func() []*corev1.Node {
		all, _ := nodes.Lister().List(labels.Everything()) // reads memory, cannot fail
		return all
	}
	for {
		// Told of all there is by the list below.
		select {
		case <-m.nodes:
		default:
		}
		r := newRoster(list(), m.cfg.NodeName, m.cfg.ClusterCIDRs)
		// A node that is alone needs no links. Those of a former process are
		// looked after all the same.
		if r.own.IsValid() && (len(r.peers) > 0 || linked(m.cfg.Host)) {
			if err := m.session(ctx, r.own, list); !errors.Is(err, errMoved) {
				return err
			}
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-m.nodes:
		}
	}
}

// errMoved ends a session: the node has another share of the Pod range.
var errMoved = errors.New("the node has another Pod CIDR")

// publish tells the paths to those who ask.
func (m *Mesh) publish(members map[netip.Addr]*member) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.paths = make(map[string]Path, len(members))
	for _, p := range members {
		m.paths[p.peer.name] = p.course.path
	}
}
