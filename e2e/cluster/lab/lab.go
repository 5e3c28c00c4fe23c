// Package lab makes a cluster's machines out of namespaces: nodes with a network,
// mounts and a host name of their own, on links that lead nowhere else, some of
// them on another subnet and some behind a NAT that lets nothing in.
//
// New makes the network, Lab.Add a Node on it, Remove undoes all of it, whatever
// is there. The invariant: everything is named by Config and below its directory
// or held by its namespaces, so that Remove needs to know nothing else, and
// nothing of the machine's own network changes. The package knows how to start
// skiff and nothing of what it does.
//
// The address plan:
//
//	192.0.2.0/24     the servers' link: .1 the first node, .2 the second …;
//	                 .200 the NAT's outer side, .254 the router
//	198.51.100.0/24  a subnet behind the router: .N the Nth node
//	192.168.77.0/24  a subnet behind the NAT, .1 its inner side: .N the Nth node
package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/skiff-sh/skiff/internal/config"
)

// Config says where a lab is.
type Config struct {
	Dir   string // absolute path; everything is below it
	Pins  string // what the paths of the network namespaces' pins begin with
	Skiff string // absolute path of the executable
}

// Place is where a node stands.
type Place int

const (
	Near   Place = iota // on the servers' link
	Far                 // on another subnet, behind a plain router
	Hidden              // behind a NAT, with no way in
)

// subnet is what nodes of a place have in common.
type subnet struct {
	owner   string // namespace that has the bridge
	bridge  string
	network netip.Prefix
	gateway netip.Addr
}

var subnets = map[Place]subnet{
	Near:   {router, "br-near", netip.MustParsePrefix("192.0.2.0/24"), netip.MustParseAddr("192.0.2.254")},
	Far:    {router, "br-far", netip.MustParsePrefix("198.51.100.0/24"), netip.MustParseAddr("198.51.100.254")},
	Hidden: {gate, "br-lan", netip.MustParsePrefix("192.168.77.0/24"), netip.MustParseAddr("192.168.77.1")},
}

// The namespaces that are no node's.
const (
	router = "router"
	gate   = "gate"
)

// routerLinks are the links of two subnets, between which the router forwards.
const routerLinks = `
link add br-near type bridge
addr add 192.0.2.254/24 dev br-near
link set br-near up
link add br-far type bridge
addr add 198.51.100.254/24 dev br-far
link set br-far up
`

// gateLinks are those of the NAT.
const gateLinks = `
link add br-lan type bridge
addr add 192.168.77.1/24 dev br-lan
link set br-lan up
addr add 192.0.2.200/24 dev wan
link set wan up
route add default via 192.0.2.254
`

// What the NAT lets out.
const (
	everything = ""
	onlyAPI    = "tcp dport 6443"
)

// gateRules let something out under the gate's address, and nothing in that was
// not asked for.
const gateRules = `
flush ruleset
table ip gate {
	chain out {
		type nat hook postrouting priority srcnat
		oifname "wan" masquerade
	}
	chain through {
		type filter hook forward priority filter; policy drop
		ct state established,related accept
		iifname "br-lan" %s accept
	}
	chain in {
		type filter hook input priority filter; policy drop
		ct state established,related accept
		iifname { "br-lan", "lo" } accept
	}
}
`

// Lab is a network and its nodes. It is not safe for concurrent use.
type Lab struct {
	Config
	nodes []*Node
}

// New makes the network, without nodes. What it made in vain is for Remove.
func New(c Config) (*Lab, error) {
	l := &Lab{Config: c}
	for _, dir := range []string{filepath.Dir(c.Pins), c.nodes(), c.spaces()} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile(c.resolver(), []byte("# The lab has no resolver.\n"), 0o644); err != nil {
		return nil, err
	}
	return l, l.space(router).make(routerLinks)
}

func (c Config) nodes() string           { return filepath.Join(c.Dir, "nodes") }
func (c Config) spaces() string          { return filepath.Join(c.Dir, "spaces") }
func (c Config) resolver() string        { return filepath.Join(c.Dir, "resolv.conf") }
func (c Config) dir(node string) string  { return filepath.Join(c.nodes(), node) }
func (c Config) data(node string) string { return filepath.Join(c.dir(node), "data") }

func (c Config) space(name string) space {
	return space{net: c.Pins + name, keeper: filepath.Join(c.spaces(), name+".pid")}
}

// Add puts a machine into the network. Its name becomes that of a link, and so
// has at most 15 bytes.
func (l *Lab) Add(name string, place Place) (*Node, error) {
	n := &Node{
		Name: name, Dir: l.dir(name), Host: config.NewHost(l.data(name)),
		lab: l, space: l.space(name), subnet: subnets[place],
	}
	l.nodes = append(l.nodes, n)
	n.Address = n.subnet.network.Addr()
	for range l.nodes {
		n.Address = n.Address.Next()
	}
	if place == Hidden {
		// Their first address is the NAT's.
		n.Address = n.Address.Next()
		if err := l.makeGate(); err != nil {
			return nil, fmt.Errorf("make NAT: %w", err)
		}
	}
	if err := os.MkdirAll(n.Host.DataDir, 0o755); err != nil {
		return nil, err
	}
	if err := n.space.makeNode(name, l.Config); err != nil {
		return nil, fmt.Errorf("make namespaces of %s: %w", name, err)
	}
	err := l.space(n.subnet.owner).ip(fmt.Sprintf(`
link add %[1]s type veth peer name eth0 netns %[2]s
link set %[1]s master %[3]s up
`, name, n.space.net, n.subnet.bridge))
	if err != nil {
		return nil, fmt.Errorf("connect %s: %w", name, err)
	}
	return n, n.setAddress()
}

// makeGate makes the NAT, once.
func (l *Lab) makeGate() error {
	s := l.space(gate)
	if s.exists() {
		return nil
	}
	if err := s.make(""); err != nil {
		return err
	}
	err := l.space(router).ip(fmt.Sprintf(`
link add gate type veth peer name wan netns %s
link set gate master br-near up
`, s.net))
	if err != nil {
		return err
	}
	if err := s.ip(gateLinks); err != nil {
		return err
	}
	return s.nft(fmt.Sprintf(gateRules, everything))
}

// Confine has the NAT let nothing out but connections to servers.
func (l *Lab) Confine() error {
	if err := l.makeGate(); err != nil {
		return err
	}
	return l.space(gate).nft(fmt.Sprintf(gateRules, onlyAPI))
}

// Exists says whether something of a lab is there.
func Exists(c Config) bool {
	_, err := os.Stat(c.spaces())
	return !errors.Is(err, os.ErrNotExist) || c.space(router).exists()
}
