package agent

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"

	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/netns"
	"github.com/skiff-sh/skiff/internal/uplink"
)

// Config is what an Agent needs. Everything but the fields marked optional
// must be set.
type Config struct {
	Client   kubernetes.Interface
	NodeName string
	NodeIPs  []netip.Addr // until SetAddresses tells others
	Host     config.Host

	Runtime Runtime
	Images  Images
	Network Network
	// Namespaces is optional: the kernel's, unless a test has its own.
	Namespaces Namespaces

	ClusterDNS    []netip.Addr
	ClusterDomain string
	Labels        map[string]string // optional, of the Node
	Taints        []corev1.Taint    // optional, given to a Node that does not exist yet
	Version       string            // what nodeInfo.kubeletVersion says

	// Informers gives the Services; Run starts it.
	Informers informers.SharedInformerFactory

	// Time is optional: what is known of the servers' clock. Without it this
	// machine's is taken for the same.
	Time *uplink.Time

	// Listen is where the node API is served, ":10250"; "" serves none.
	Listen      string
	ServingCert func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	ClientCA    *x509.CertPool // of those who may call the node API
	// Latest is optional: the latest time known to be past, by which certificates
	// of callers are judged; nil: this machine's clock.
	Latest func() time.Time

	Log *zap.Logger
}

// Namespaces makes what Pods live in; package netns is the real one.
type Namespaces interface {
	// Create, CreateIPC and CreateUTS make a namespace pinned at path. One
	// that is pinned there already stays as it is.
	Create(path string) error
	CreateIPC(path string) error
	CreateUTS(path, hostname string) error
	// Remove unpins one. A path that does not exist is no error.
	Remove(path string) error
	// DialIn connects from inside the network namespace pinned at path.
	DialIn(ctx context.Context, path, network, address string) (net.Conn, error)
}

// hostNamespaces are the kernel's.
type hostNamespaces struct{}

func (hostNamespaces) Create(path string) error              { return netns.Create(path) }
func (hostNamespaces) CreateIPC(path string) error           { return netns.CreateIPC(path) }
func (hostNamespaces) CreateUTS(path, hostname string) error { return netns.CreateUTS(path, hostname) }
func (hostNamespaces) Remove(path string) error              { return netns.Remove(path) }
func (hostNamespaces) DialIn(ctx context.Context, path, network, address string) (net.Conn, error) {
	return netns.DialIn(ctx, path, network, address)
}

func (c Config) validate() error {
	switch {
	case c.Client == nil, c.Runtime == nil, c.Images == nil, c.Network == nil:
		return errors.New("agent: Client, Runtime, Images and Network must be set")
	case c.NodeName == "":
		return errors.New("agent: NodeName must be set")
	case len(c.NodeIPs) == 0:
		return errors.New("agent: a node needs at least one address")
	case c.Log == nil:
		return errors.New("agent: Log must be set")
	case c.Informers == nil:
		return errors.New("agent: Informers must be set")
	case c.Listen != "" && (c.ServingCert == nil || c.ClientCA == nil):
		return errors.New("agent: serving the node API needs ServingCert and ClientCA")
	}
	return nil
}
