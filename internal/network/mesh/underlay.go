package mesh

import (
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// facts is what the machine's own routes say of a peer's address. Two that are
// equal make the same paths possible.
type facts struct {
	node  netip.Addr
	reach bool // a link leads there
	link  int  // by which the peer is reached without a router; 0 for none
}

// look asks the kernel. own are links of the mesh, which lead nowhere by
// themselves.
func look(node netip.Addr, strict map[int]bool, own ...int) facts {
	f := facts{node: node}
	if !node.IsValid() {
		return f
	}
	routes, err := netlink.RouteGet(node.AsSlice())
	if err != nil || len(routes) == 0 {
		return f
	}
	r := routes[0]
	for _, link := range own {
		if r.LinkIndex == link {
			return f
		}
	}
	// A route to the machine itself: the peer, behind a NAT, has an address
	// that this machine has, too.
	if r.Type != unix.RTN_UNICAST {
		return f
	}
	f.reach = true
	if r.Gw == nil && r.Via == nil && !isStrict(r.LinkIndex, strict) {
		f.link = r.LinkIndex
	}
	return f
}

// isStrict says whether a link takes packets only from where they would be sent
// to. Two nodes that change to a direct route cannot do so at the same instant,
// so that such a link would drop what comes meanwhile; and a probe, whose answer
// comes by the path in use, would never be answered. VXLAN does as well there,
// and the setting is the machine's owner's to change. known caches.
func isStrict(link int, known map[int]bool) bool {
	if strict, is := known[link]; is {
		return strict
	}
	l, err := netlink.LinkByIndex(link)
	if err != nil {
		return true
	}
	known[link] = max(rpFilter("all"), rpFilter(l.Attrs().Name)) == "1"
	return known[link]
}

func rpFilter(link string) string {
	b, err := os.ReadFile("/proc/sys/net/ipv4/conf/" + link + "/rp_filter")
	if err != nil {
		return "0"
	}
	return strings.TrimSpace(string(b))
}
