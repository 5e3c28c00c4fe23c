package agent

import (
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
	Ground  // optional

	// Handlers is optional: the names of what can run Pods besides runc.
	Handlers []string

	ClusterDNS    []netip.Addr
	ClusterDomain string
	Labels        map[string]string // optional, of the Node
	Taints        []corev1.Taint    // optional, given to a Node that does not exist yet
	Version       string            // what nodeInfo.kubeletVersion says

	// Kubelet is optional: how the node keeps itself from running short.
	Kubelet config.Kubelet

	// Informers gives the Services; Run starts it.
	Informers informers.SharedInformerFactory

	// PodCIDRs is optional: it is told the node's share of the Pod range, when the
	// node has one and whenever it is another. Its error ends the Agent.
	PodCIDRs func([]netip.Prefix) error

	// Time is optional: what is known of the servers' clock. Without it this
	// machine's is taken for the same.
	Time *uplink.Time

	// Listen is where the node API is served, ":10250"; "" serves none. Listener
	// is optional: it takes the place of a port that is opened there.
	Listen      string
	Listener    net.Listener
	ServingCert func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	ClientCA    *x509.CertPool // of those who may call the node API
	// Latest is optional: the latest time known to be past, by which certificates
	// of callers are judged; nil: this machine's clock.
	Latest func() time.Time

	Log *zap.Logger
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
