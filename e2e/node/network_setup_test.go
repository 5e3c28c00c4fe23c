package node

import (
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"
	nlns "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/skiff-sh/skiff/internal/netns"
)

// The address plan: the shared machine and its neighbour, which has another
// address behind it that only the default route leads to.
const (
	nodeAddress   = "192.0.2.1"
	neighbour     = "192.0.2.2"
	farAddress    = "198.51.100.7"
	lonelyAddress = "192.0.0.8" // of machines without a network
)

// outside is the pin of the neighbour's network namespace.
func outside() string { return filepath.Join(base, "net", "outside") }

func connectOutside() error {
	ns, err := nlns.GetFromPath(outside())
	if err != nil {
		return err
	}
	defer ns.Close()
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "up0"
	err = netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(ns)})
	if err != nil {
		return err
	}
	if err := addressUp("up0", nodeAddress+"/24"); err != nil {
		return err
	}
	if err := netns.Do(outside(), func() error { return addressUp("eth0", neighbour+"/24", farAddress+"/32") }); err != nil {
		return err
	}
	return netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP(neighbour)})
}

// serveNames answers for far.example.org at the neighbour, who becomes this
// machine's resolver, until the process ends.
func serveNames() error {
	path := filepath.Join(base, "resolv.conf")
	if err := os.WriteFile(path, []byte("nameserver "+neighbour+"\n"), 0o644); err != nil {
		return err
	}
	if err := unix.Mount(path, "/etc/resolv.conf", "", unix.MS_BIND, ""); err != nil {
		return err
	}
	var conn net.PacketConn
	err := netns.Do(outside(), func() (err error) {
		conn, err = net.ListenPacket("udp4", neighbour+":53")
		return err
	})
	if err != nil {
		return err
	}
	server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		answer := new(dns.Msg).SetReply(q)
		switch question := q.Question[0]; {
		case question.Name != "far.example.org.":
			answer.Rcode = dns.RcodeNameError
		case question.Qtype == dns.TypeA:
			answer.Answer = []dns.RR{&dns.A{
				Hdr: dns.RR_Header{Name: question.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60},
				A:   net.ParseIP(farAddress),
			}}
		}
		_ = w.WriteMsg(answer)
	})}
	go func() { _ = server.ActivateAndServe() }()
	return nil
}

func addressUp(name string, addresses ...string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	for _, text := range addresses {
		a, err := netlink.ParseAddr(text)
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(link, a); err != nil {
			return fmt.Errorf("%s: %w", text, err)
		}
	}
	return netlink.LinkSetUp(link)
}
