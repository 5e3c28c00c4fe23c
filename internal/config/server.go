// Package config holds the settings of skiff's roles and merges them from a
// file, its drop-ins, the environment and flags, in that order.
//
// Server is what `skiff server` can be told, Agent what `skiff agent` can, Node the
// part that every node has, Store and Snapshots what concerns the cluster's data; a Setting binds one field to its key; Load applies the sources; Host
// derives what a node owns on its machine. The invariant: after Load and
// Validate without an error, every field can be used as it is. The package never
// reads the cluster.
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Node are the settings that every node has.
type Node struct {
	DataDir                  string
	NodeName                 string
	NodeIPs                  []netip.Addr // empty: the addresses of the default route's link
	NodeLabels               []Label
	NodeTaints               []corev1.Taint
	ContainerRuntimeEndpoint string // "": containerd in our own process
	PrivateRegistry          string // registries.yaml
	DisableDefaultRegistry   bool
	KubeletArgs              []string // of upstream's kubelet: see Kubelet
	LogLevel                 string
	LogFormat                string
}

// Server are the settings of `skiff server`.
type Server struct {
	Node
	BindAddress          netip.Addr
	HTTPSListenPort      int
	AdvertiseAddress     netip.Addr // invalid: the node's first address
	TLSSANs              []string
	ClusterCIDRs         []netip.Prefix
	ServiceCIDRs         []netip.Prefix
	ServiceNodePortRange PortRange
	ClusterDNS           []netip.Addr // empty: the tenth address of each Service range
	ClusterDomain        string
	WriteKubeconfig      string // "": /etc/skiff/kubeconfig.yaml with the default data directory, else below it
	WriteKubeconfigMode  fs.FileMode
	DisableAgent         bool
	DisableControllers   bool
	DisableScheduler     bool
	Token                string // the password of the server's own token; "": that of its file
	TokenFile            string
	Store                Store
	Snapshots            Snapshots
}

// DefaultServer returns the settings of a server that is told nothing.
func DefaultServer() Server {
	return Server{
		Node:                 defaultNode(),
		BindAddress:          netip.IPv4Unspecified(),
		HTTPSListenPort:      6443,
		ClusterCIDRs:         []netip.Prefix{netip.MustParsePrefix("10.42.0.0/16")},
		ServiceCIDRs:         []netip.Prefix{netip.MustParsePrefix("10.43.0.0/16")},
		ServiceNodePortRange: PortRange{First: 30000, Last: 32767},
		ClusterDomain:        "cluster.local",
		WriteKubeconfigMode:  0o600,
		Store:                defaultStore(),
		Snapshots:            defaultSnapshots(),
	}
}

func defaultNode() Node {
	return Node{PrivateRegistry: "/etc/skiff/registries.yaml", DataDir: DefaultDataDir, NodeName: hostname(), LogLevel: "info", LogFormat: "console"}
}

func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "" // Validate asks for --node-name
	}
	return strings.ToLower(strings.TrimSuffix(name, "."))
}

// Settings binds every field to its key.
func (s *Server) Settings() []Setting {
	return slices.Concat(s.Node.settings(), s.settings(), s.Store.settings(), s.Snapshots.settings())
}

func (s *Server) settings() []Setting {
	return []Setting{
		{"bind-address", "address the API listens on", addressValue(&s.BindAddress)},
		{"https-listen-port", "port the API listens on", portValue(&s.HTTPSListenPort)},
		{"advertise-address", "address under which Pods and nodes reach the API (default: the node's)", addressValue(&s.AdvertiseAddress)},
		{"tls-san", "further names and addresses for the API's certificate", stringsValue(&s.TLSSANs)},
		{"cluster-cidr", "range of the Pods' addresses", prefixesValue(&s.ClusterCIDRs)},
		{"service-cidr", "range of the Services' addresses", prefixesValue(&s.ServiceCIDRs)},
		{"service-node-port-range", "range of NodePort Services' ports", portRangeValue(&s.ServiceNodePortRange)},
		{"cluster-dns", "address of the cluster's DNS (default: the tenth of the Service range)", addressesValue(&s.ClusterDNS)},
		{"cluster-domain", "domain of the cluster's DNS names", stringValue(&s.ClusterDomain)},
		{"write-kubeconfig", "where to write the administrator's kubeconfig (default: /etc/skiff/kubeconfig.yaml, or DATA-DIR/kubeconfig.yaml where the data directory is not the default one)", pathValue(&s.WriteKubeconfig)},
		{"write-kubeconfig-mode", "file mode of that kubeconfig", modeValue(&s.WriteKubeconfigMode)},
		{"disable-agent", "run the control plane only, no node", boolValue(&s.DisableAgent)},
		{"disable-controller-manager", "run no controllers: objects stay as clients leave them", boolValue(&s.DisableControllers)},
		{"disable-scheduler", "run no scheduler: Pods go to the nodes that clients name", boolValue(&s.DisableScheduler)},
		{"token", "password with which machines join (default: a random one; see DATA-DIR/server/token)", stringValue(&s.Token)},
		{"token-file", "file that holds that password", pathValue(&s.TokenFile)},
	}
}

func (n *Node) settings() []Setting {
	return []Setting{
		{"data-dir", "where skiff keeps everything", pathValue(&n.DataDir)},
		{"node-name", "name of the node (default: the host's name)", stringValue(&n.NodeName)},
		{"node-ip", "addresses of the node (default: of the default route's link)", addressesValue(&n.NodeIPs)},
		{"node-label", "labels for the node", labelsValue(&n.NodeLabels)},
		{"node-taint", "taints for the node when it registers", taintsValue(&n.NodeTaints)},
		{"private-registry", "file that says how registries and their mirrors are reached", pathValue(&n.PrivateRegistry)},
		{"kubelet-arg", "argument of upstream's kubelet, NAME=VALUE; may be given again (eviction-hard, kube-reserved, config=FILE of its configuration …)", stringsValue(&n.KubeletArgs)},
		{"disable-default-registry-endpoint", "never ask a registry itself that has mirrors", boolValue(&n.DisableDefaultRegistry)},
		{"container-runtime-endpoint", "socket of a containerd that is there already", stringValue(&n.ContainerRuntimeEndpoint)},
		{"log-level", "least level that is logged", choiceValue(&n.LogLevel, "debug", "info", "warn", "error")},
		{"log-format", "form of the log", choiceValue(&n.LogFormat, "console", "json")},
	}
}

// Validate fills what derives from other settings and returns everything that
// does not fit together, joined in one error.
func (s *Server) Validate() error {
	errs := []error{s.Node.validate()}
	if s.WriteKubeconfig == "" {
		s.WriteKubeconfig = kubeconfigPath(s.DataDir)
	}
	if problems := validation.IsDNS1123Subdomain(s.ClusterDomain); len(problems) > 0 {
		errs = append(errs, fmt.Errorf("cluster-domain %q: %s", s.ClusterDomain, problems[0]))
	}
	var err error
	s.Token, err = readToken(s.Token, s.TokenFile)
	errs = append(errs, err, s.validateRanges(), s.deriveDNS(), s.Snapshots.validate(s.DataDir))
	return errors.Join(errs...)
}

func (n *Node) validate() error {
	var errs []error
	if problems := validation.IsDNS1123Subdomain(n.NodeName); len(problems) > 0 {
		errs = append(errs, fmt.Errorf("node-name %q: %s; set another with --node-name", n.NodeName, problems[0]))
	}
	for _, a := range n.NodeIPs {
		if a.IsUnspecified() || a.IsMulticast() {
			errs = append(errs, fmt.Errorf("node-ip %s: expected an address of this machine", a))
		}
	}
	if _, err := ParseKubelet(n.KubeletArgs); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func kubeconfigPath(dataDir string) string {
	if dataDir == DefaultDataDir {
		return "/etc/skiff/kubeconfig.yaml"
	}
	return dataDir + "/kubeconfig.yaml"
}

func (s *Server) validateRanges() error {
	var errs []error
	for _, r := range []struct {
		key  string
		list []netip.Prefix
		bits int // the least host bits that make sense
	}{{"cluster-cidr", s.ClusterCIDRs, 8}, {"service-cidr", s.ServiceCIDRs, 4}} {
		if len(r.list) == 0 {
			errs = append(errs, fmt.Errorf("%s: expected a network such as 10.42.0.0/16", r.key))
		}
		if len(r.list) > 1 {
			errs = append(errs, fmt.Errorf("%s: expected one network, there are %d", r.key, len(r.list)))
		}
		for _, p := range r.list {
			if !p.Addr().Is4() {
				errs = append(errs, fmt.Errorf("%s %s: only IPv4 networks are possible so far", r.key, p))
			} else if p.Addr().BitLen()-p.Bits() < r.bits {
				errs = append(errs, fmt.Errorf("%s %s: too small, expected a prefix length of at most %d", r.key, p, p.Addr().BitLen()-r.bits))
			}
		}
	}
	for _, c := range s.ClusterCIDRs {
		for _, v := range s.ServiceCIDRs {
			if c.Overlaps(v) {
				errs = append(errs, fmt.Errorf("cluster-cidr %s and service-cidr %s overlap: choose ranges that do not", c, v))
			}
		}
	}
	return errors.Join(errs...)
}

// deriveDNS fills ClusterDNS with the tenth address of each Service range, and
// checks that every address lies in one.
func (s *Server) deriveDNS() error {
	if len(s.ClusterDNS) == 0 {
		for _, p := range s.ServiceCIDRs {
			s.ClusterDNS = append(s.ClusterDNS, nth(p, 10))
		}
		return nil
	}
	var errs []error
	for _, a := range s.ClusterDNS {
		inside := false
		for _, p := range s.ServiceCIDRs {
			inside = inside || p.Contains(a)
		}
		if !inside {
			errs = append(errs, fmt.Errorf("cluster-dns %s: expected an address within service-cidr", a))
		}
	}
	return errors.Join(errs...)
}

// APIServiceAddresses returns the addresses of the Service default/kubernetes:
// the first of each Service range.
func (s *Server) APIServiceAddresses() []netip.Addr {
	addresses := make([]netip.Addr, len(s.ServiceCIDRs))
	for i, p := range s.ServiceCIDRs {
		addresses[i] = nth(p, 1)
	}
	return addresses
}

func nth(p netip.Prefix, n int) netip.Addr {
	a := p.Masked().Addr()
	for range n {
		a = a.Next()
	}
	return a
}
