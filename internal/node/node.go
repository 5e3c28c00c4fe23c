// Package node opens, runs and closes a node: containers, images, network,
// Services, DNS, and the agent that runs Pods with them.
//
// Run is the whole life of a node; KillAll undoes what one did to its machine.
// The invariant: a node reaches the cluster only through the API, and everything
// it makes on the machine is named by its config.Host. The package decides
// nothing; what a part does is the part's own affair.
package node

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/skiff-sh/skiff/embed"
	"github.com/skiff-sh/skiff/internal/agent"
	"github.com/skiff-sh/skiff/internal/agent/containerd"
	"github.com/skiff-sh/skiff/internal/agent/image"
	"github.com/skiff-sh/skiff/internal/agent/image/registries"
	"github.com/skiff-sh/skiff/internal/checkpoint"
	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/dns"
	"github.com/skiff-sh/skiff/internal/network/mesh"
	"github.com/skiff-sh/skiff/internal/network/pod"
	"github.com/skiff-sh/skiff/internal/network/service"
	"github.com/skiff-sh/skiff/internal/pki"
	"github.com/skiff-sh/skiff/internal/tunnel"
	"github.com/skiff-sh/skiff/internal/uplink"
	"github.com/skiff-sh/skiff/internal/version"
)

// apiPort is where a node serves its own API.
const apiPort = 10250

// Config is what a node is told by whoever runs it.
type Config struct {
	Settings      config.Node
	Host          config.Host
	Addresses     []netip.Addr
	Moved         func([]netip.Addr) // optional; is told when the addresses are others
	Uplink        *uplink.Uplink     // to the API, as this node
	Checkpoint    string             // file of what the servers last said, for a start without them; "": none
	Authority     *x509.Certificate
	Serving       *pki.Identity // of the node's own API
	ClusterCIDRs  []netip.Prefix
	ServiceCIDRs  []netip.Prefix
	ClusterDNS    []netip.Addr
	ClusterDomain string
	Packets       mesh.Packets // to other nodes, of a node beside its server; nil: it opens tunnels
	Log           *zap.Logger
}

// Run runs the node until the context ends, and leaves its Pods running. It
// returns the first failure of a part.
func Run(ctx context.Context, c Config) (err error) {
	n, err := open(ctx, c)
	defer func() { err = errors.Join(err, n.close()) }()
	if err != nil {
		return fmt.Errorf("open node: %w", err)
	}
	return n.run(ctx)
}

// node is what Run has opened.
type node struct {
	Config
	memory    *checkpoint.Checkpoint // nil: there is none
	client    kubernetes.Interface
	informers informers.SharedInformerFactory
	runtime   *containerd.Runtime
	images    *carried
	network   *pod.Network
	pods      *agent.Agent
	policy    *tunnel.Policy
	tunnels   *tunnels
	closers   []func() error
}

func open(ctx context.Context, c Config) (*node, error) {
	n := &node{Config: c}
	for _, dir := range []string{c.Host.DataDir, c.Host.RunDir, c.Host.LogDir} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return n, err
		}
	}
	if err := n.connect(); err != nil {
		return n, err
	}
	if err := n.openRuntime(ctx); err != nil {
		return n, err
	}
	network, err := pod.New(pod.Config{
		Host: c.Host, ClusterCIDRs: c.ClusterCIDRs, ServiceCIDRs: c.ServiceCIDRs, Log: c.Log.Named("network"),
	})
	n.network = network
	return n, err
}

// connect makes the client, which speaks protobuf and is not throttled: the
// server's own fairness is enough.
func (n *node) connect() (err error) {
	n.client, err = kubernetes.NewForConfig(&rest.Config{
		Host:      n.Uplink.URL(),
		Transport: n.way(),
		UserAgent: "skiff-agent/" + version.Number(),
		QPS:       -1,
		ContentConfig: rest.ContentConfig{
			ContentType:        runtime.ContentTypeProtobuf,
			AcceptContentTypes: runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON,
		},
	})
	if err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	n.informers = informers.NewSharedInformerFactory(n.client, 0)
	return nil
}

func (n *node) openRuntime(ctx context.Context) error {
	helpers := filepath.Join(n.Host.DataDir, "agent", "bin")
	runc, err := embed.Unpack(helpers, embed.Runc)
	if err != nil {
		return err
	}
	shim, err := embed.Unpack(helpers, embed.Shim)
	if err != nil {
		return err
	}
	n.runtime, err = containerd.Open(ctx, containerd.Config{
		Host: n.Host, Address: n.Settings.ContainerRuntimeEndpoint,
		Runc: runc, Handlers: containerd.FindHandlers(os.Getenv("PATH")), Shim: shim, Log: n.Log.Named("runtime"),
	})
	if err != nil {
		return err
	}
	n.closers = append(n.closers, n.runtime.Close)
	// Who has all images goes on without: only what must be fetched waits for it.
	if _, err := registries.Read(n.Settings.PrivateRegistry); err != nil {
		n.Log.Warn("no image can be pulled", zap.Error(err))
	}
	kubelet, _ := config.ParseKubelet(n.Settings.KubeletArgs) // Validate has read them
	n.images = &carried{ownStore: image.New(image.Config{
		Client: n.runtime.Client(), Namespace: n.runtime.Namespace(), Snapshotter: n.runtime.Snapshotter(),
		Registries: n.Settings.PrivateRegistry, OnlyMirrors: n.Settings.DisableDefaultRegistry,
		Log: n.Log.Named("images"), Latest: n.Uplink.Clock.Latest,
		Pulls: kubelet.Pulls,
	})}
	n.closers = append(n.closers, n.images.Close)
	return nil
}

func (n *node) close() error {
	var errs []error
	for i := len(n.closers) - 1; i >= 0; i-- {
		errs = append(errs, n.closers[i]())
	}
	n.closers = nil
	return errors.Join(errs...)
}

// run runs the node's parts until the context ends or one of them fails.
func (n *node) run(ctx context.Context) error {
	services, err := service.New(service.Config{
		Informers: n.informers, NodeName: n.Settings.NodeName, Host: n.Host,
		ServiceCIDRs: n.ServiceCIDRs, DNS: n.ClusterDNS, Log: n.Log.Named("services"),
	})
	if err != nil {
		return err
	}
	names, err := dns.New(dns.Config{
		Informers: n.informers, Host: n.Host, ClusterDomain: n.ClusterDomain, Addresses: n.ClusterDNS,
		Ranges: slices.Concat(n.ClusterCIDRs, n.ServiceCIDRs), Log: n.Log.Named("dns"),
	})
	if err != nil {
		return err
	}
	n.openTunnels()
	if n.pods, err = agent.New(n.agentConfig()); err != nil {
		return err
	}
	others := mesh.New(mesh.Config{
		Client: n.client, NodeName: n.Settings.NodeName, Host: n.Host, ClusterCIDRs: n.ClusterCIDRs,
		Packets: n.Packets, Log: n.Log.Named("mesh"),
	})
	group, ctx := errgroup.WithContext(ctx)
	for _, part := range []func(context.Context) error{
		n.pods.Run, n.followAddresses, n.network.Run, others.Run, services.Run, names.Run, n.runTunnels, n.remember,
		func(ctx context.Context) error { return serveLocal(ctx, n.Host, n.images) },
	} {
		group.Go(func() error { return part(ctx) })
	}
	err = group.Wait()
	n.informers.Shutdown()
	return err
}

func (n *node) agentConfig() agent.Config {
	kubelet, _ := config.ParseKubelet(n.Settings.KubeletArgs) // Validate has read them
	return agent.Config{
		Client: n.client, NodeName: n.Settings.NodeName, NodeIPs: n.Addresses, Host: n.Host,
		Runtime: n.runtime, Images: n.images, Network: n.network, PodCIDRs: n.setPodCIDRs,
		Handlers: n.runtime.Handlers(), Kubelet: kubelet,
		ClusterDNS: n.ClusterDNS, ClusterDomain: n.ClusterDomain,
		Labels: n.labels(), Taints: n.Settings.NodeTaints, Version: version.Git(),
		Informers:   n.informers,
		Listen:      fmt.Sprintf(":%d", apiPort),
		ServingCert: n.Serving.GetCertificate,
		ClientCA:    n.authorities(),
		Time:        n.Uplink.Time(),
		Latest:      n.Uplink.Clock.Latest,
		Log:         n.Log.Named("agent"),
	}
}

func (n *node) labels() map[string]string {
	labels := map[string]string{}
	for _, l := range n.Settings.NodeLabels {
		labels[l.Key] = l.Value
	}
	return labels
}

func (n *node) authorities() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(n.Authority)
	return pool
}
