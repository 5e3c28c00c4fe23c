package hollow

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/skiff-sh/skiff/internal/agent"
	"github.com/skiff-sh/skiff/internal/agent/oom"
	"github.com/skiff-sh/skiff/internal/agent/volume"
	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/join"
	"github.com/skiff-sh/skiff/internal/tunnel"
	"github.com/skiff-sh/skiff/internal/version"
)

// apiPort is where the nodes say that their own API is. It is there for who comes
// through the tunnel, and no port of the machine.
const apiPort = 10250

// node is one of the crowd.
type node struct {
	*crowd
	name    string
	address netip.Addr
	host    config.Host
	log     *zap.Logger
	network *addresses
	policy  *tunnel.Policy
	api     *pipe
}

// node returns the i-th node.
func (c *crowd) node(i int) *node {
	name := c.Name(i)
	dir := filepath.Join(c.DataDir, name)
	n := &node{
		crowd: c, name: name, address: c.Address(i), log: c.log.With(zap.String("node", name)),
		host:    config.Host{DataDir: dir, RunDir: filepath.Join(dir, "run"), LogDir: filepath.Join(dir, "logs")},
		network: newAddresses(), policy: tunnel.NewPolicy(apiPort), api: newPipe(),
	}
	n.policy.SetAddresses(n.addresses())
	return n
}

func (n *node) addresses() []netip.Addr { return []netip.Addr{n.address} }

// run joins and runs the node until the context ends. What ends it once it has
// joined is its own affair.
func (n *node) run(ctx context.Context) error {
	m, err := n.join(ctx)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("node %s: %w", n.name, err)
	}
	n.arrived()
	if err := n.live(ctx, m); err != nil {
		n.log.Error("node ended; the others go on", zap.Error(err))
	}
	return nil
}

func (n *node) join(ctx context.Context) (*join.Membership, error) {
	leave, err := n.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	return join.Join(ctx, join.Config{
		Host: n.host, NodeName: n.name, Addresses: n.addresses(),
		Servers: n.Servers, Token: n.Token, Clock: n.clock, Log: n.log.Named("join"),
	})
}

// live runs what a member runs.
func (n *node) live(ctx context.Context, m *join.Membership) error {
	runtime, err := openRuntime(filepath.Join(n.host.DataDir, "containers"))
	if err != nil {
		return err
	}
	client, err := connect(m)
	if err != nil {
		return err
	}
	c := n.agentConfig(m, client, runtime)
	pods, err := agent.New(c)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, part := range []func(context.Context) error{
		m.KeepClient,
		func(ctx context.Context) error { return m.KeepServing(ctx, n.addresses, nil) },
		m.FollowCluster,
		pods.Run,
		func(ctx context.Context) error { return n.runTunnel(ctx, m) },
	} {
		group.Go(func() error { return part(ctx) })
	}
	err = group.Wait()
	c.Informers.Shutdown()
	return err
}

// connect makes the client, as a node has it.
func connect(m *join.Membership) (kubernetes.Interface, error) {
	return kubernetes.NewForConfig(&rest.Config{
		Host: m.Uplink.URL(), Transport: m.Uplink, UserAgent: "skiff-hollow/" + version.Number(), QPS: -1,
		ContentConfig: rest.ContentConfig{
			ContentType:        kruntime.ContentTypeProtobuf,
			AcceptContentTypes: kruntime.ContentTypeProtobuf + "," + kruntime.ContentTypeJSON,
		},
	})
}

func (n *node) agentConfig(m *join.Membership, client kubernetes.Interface, runtime *runtime) agent.Config {
	labels := map[string]string{}
	for _, l := range n.NodeLabels {
		labels[l.Key] = l.Value
	}
	return agent.Config{
		Client: client, NodeName: n.name, NodeIPs: n.addresses(), Host: n.host,
		Runtime: runtime, Images: images{}, Network: n.network,
		Kubelet: config.Kubelet{Pods: config.DefaultPods()},
		Ground: agent.Ground{
			Victims: func(context.Context, func(oom.Victim)) error { return nil }, // the machine is not theirs
			Watch: func(ctx context.Context, _ string, _ func()) error { // there are no static Pods
				<-ctx.Done()
				return nil
			},
			Machine: machine{n.name}, Namespaces: namespaces{}, Cgroups: cgroups{}, Logs: logs{}, Disk: volume.Nowhere{},
			Reach: reach,
		},
		ClusterDNS: m.Cluster.ClusterDNS, ClusterDomain: m.Cluster.ClusterDomain,
		Labels: labels, Taints: n.NodeTaints, Version: version.Git(),
		Informers: informers.NewSharedInformerFactory(client, 0),
		PodCIDRs:  n.setPodCIDRs,
		Time:      m.Uplink.Time(),
		Listen:    fmt.Sprintf(":%d", apiPort), Listener: n.api,
		ServingCert: m.Serving.GetCertificate, ClientCA: pool(m.Authority), Latest: n.clock.Latest,
		Log: n.log.Named("agent"),
	}
}

func (n *node) setPodCIDRs(ranges []netip.Prefix) error {
	n.policy.SetPodCIDRs(ranges)
	n.network.setRanges(ranges)
	return nil
}

// runTunnel keeps the node's tunnel up. Packets of other nodes it does not take.
func (n *node) runTunnel(ctx context.Context, m *join.Membership) error {
	if n.NoTunnel {
		return nil
	}
	return (&tunnel.Agent{
		Connect: m.Uplink.Dial, Dial: n.dial, Log: n.log.Named("tunnel"),
		Renewed: func() <-chan struct{} {
			_, changed := m.Client.Watch()
			return changed
		},
	}).Run(ctx)
}

// dial connects a server to the node's own API, which is all there is.
func (n *node) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if err := n.policy.Allow(network, address); err != nil {
		return nil, err
	}
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	if to.Port() != apiPort || !to.Addr().IsLoopback() && to.Addr() != n.address {
		return nil, errors.New("nothing answers on a hollow node but its own API")
	}
	return n.api.dial(ctx)
}
