package server

import (
	"crypto"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"

	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/pki"
)

// frontProxyClient is the common name under which the API server speaks to
// aggregated ones.
const frontProxyClient = "front-proxy-client"

// keys are all keys and certificates of a server.
type keys struct {
	settings       config.Server
	clock          pki.Clock
	files          *pki.Files
	authority      pki.Pair // of clients and servers
	frontProxy     pki.Pair // authority of the front proxy
	serviceAccount crypto.Signer
	token          pki.Token // the server's own

	serving       *pki.Identity // of the API
	admin         *pki.Identity // system:masters
	toNodes       *pki.Identity // the API server as a client of nodes
	node          *pki.Identity // this machine's node as a client
	nodeServing   *pki.Identity // this machine's node's own API
	frontProxyTLS *pki.Identity // the API server as a client of aggregated ones

	mu        sync.Mutex      // guards what follows
	addresses []netip.Addr    // of this machine; replaced, never changed
	moved     []chan struct{} // each holds something when addresses were replaced
}

// openKeys makes what is missing below the data directory and reads the rest.
func openKeys(settings config.Server, addresses []netip.Addr, clock pki.Clock) (*keys, error) {
	files, err := pki.Open(filepath.Join(settings.DataDir, "server", "tls"), clock)
	if err != nil {
		return nil, err
	}
	k := &keys{settings: settings, clock: clock, files: files, addresses: addresses}
	if k.authority, err = files.Authority("ca", "skiff-ca"); err != nil {
		return nil, err
	}
	clock.Past.Bound(k.authority.Certificate.NotAfter)
	if k.frontProxy, err = files.Authority("front-proxy-ca", "skiff-front-proxy-ca"); err != nil {
		return nil, err
	}
	if k.serviceAccount, err = files.Key("service-account"); err != nil {
		return nil, err
	}
	own, err := pki.Open(config.NewHost(settings.DataDir).ServerDir(), clock)
	if err != nil {
		return nil, err
	}
	if k.token, err = own.Token(k.authority.CertificatePEM(), settings.Token); err != nil {
		return nil, err
	}
	for _, leaf := range k.leaves() {
		pair, err := files.Leaf(leaf.name, *leaf.authority, leaf.subject())
		if err != nil {
			return nil, err
		}
		*leaf.identity = pki.NewIdentity(pair)
	}
	return k, nil
}

type leaf struct {
	identity  **pki.Identity
	name      string // of its files
	authority *pki.Pair
	subject   func() pki.Subject // may change
}

func (k *keys) leaves() []leaf {
	nodeUser := "system:node:" + k.settings.NodeName
	fixed := func(s pki.Subject) func() pki.Subject { return func() pki.Subject { return s } }
	return []leaf{
		{&k.serving, "serving", &k.authority, func() pki.Subject { return servingSubject(k.settings, k.addressesNow()) }},
		{&k.admin, "admin", &k.authority, fixed(pki.Subject{
			CommonName: "system:admin", Organizations: []string{"system:masters"}, Client: true})},
		{&k.toNodes, "kubelet-client", &k.authority, fixed(pki.Subject{
			CommonName: "kube-apiserver-kubelet-client", Organizations: []string{"system:masters"}, Client: true})},
		{&k.node, "node", &k.authority, fixed(pki.Subject{
			CommonName: nodeUser, Organizations: []string{"system:nodes"}, Client: true})},
		{&k.nodeServing, "node-serving", &k.authority, func() pki.Subject {
			return pki.Subject{CommonName: nodeUser, Names: []string{k.settings.NodeName, "localhost"},
				Addresses: append(slices.Clone(k.addressesNow()), loopback), Server: true}
		}},
		{&k.frontProxyTLS, "front-proxy-client", &k.frontProxy, fixed(pki.Subject{
			CommonName: frontProxyClient, Client: true})},
	}
}

func (k *keys) addressesNow() []netip.Addr {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.addresses
}

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// servingSubject has every name and address under which clients call the API.
func servingSubject(settings config.Server, addresses []netip.Addr) pki.Subject {
	s := pki.Subject{
		CommonName: "skiff-server",
		Names: []string{
			"kubernetes", "kubernetes.default", "kubernetes.default.svc",
			"kubernetes.default.svc." + settings.ClusterDomain, "localhost", settings.NodeName,
		},
		Addresses: append([]netip.Addr{loopback, netip.IPv6Loopback()}, settings.APIServiceAddresses()...),
		Server:    true,
	}
	s.Addresses = append(s.Addresses, addresses...)
	for _, a := range []netip.Addr{settings.AdvertiseAddress, settings.BindAddress} {
		if a.IsValid() && !a.IsUnspecified() {
			s.Addresses = append(s.Addresses, a)
		}
	}
	for _, san := range settings.TLSSANs {
		if a, err := netip.ParseAddr(san); err == nil {
			s.Addresses = append(s.Addresses, a)
		} else {
			s.Names = append(s.Names, san)
		}
	}
	return s
}
