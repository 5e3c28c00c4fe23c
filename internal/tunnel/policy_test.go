package tunnel

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func TestPolicy(t *testing.T) {
	p := NewPolicy(10250)
	p.SetAddresses([]netip.Addr{netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::7")})
	p.SetPodCIDRs([]netip.Prefix{netip.MustParsePrefix("10.42.3.0/24"), netip.MustParsePrefix("fd00:42:0:3::/64")})
	for _, c := range []struct{ network, address, why string }{
		{"tcp", "127.0.0.1:10250", ""},
		{"tcp", "[::1]:10250", ""},
		{"tcp", "127.0.0.1:22", "only the node's own API"},
		{"tcp", "[::ffff:127.0.0.1]:2379", "only the node's own API"},
		{"tcp", "192.0.2.7:10250", ""},
		{"tcp", "192.0.2.7:9100", ""}, // a Pod with the host's network
		{"tcp", "[2001:db8::7]:80", ""},
		{"tcp", "10.42.3.9:80", ""},
		{"tcp", "[::ffff:10.42.3.9]:80", ""},
		{"tcp", "[fd00:42:0:3::9]:80", ""},
		{"tcp", "10.42.4.9:80", "neither"}, // another node's Pod
		{"tcp", "192.0.2.1:80", "neither"}, // the router beside it
		{"tcp", "169.254.169.254:80", "neither"},
		{"tcp", "0.0.0.0:22", "neither"},
		{"tcp", "localhost:10250", "expected an IP address"},
		{"tcp", "10.42.3.9", "expected an IP address"},
		{"tcp", "10.42.3.9:99999", "expected an IP address"},
		{"udp", "10.42.3.9:53", "only TCP"},
		{"unix", "/run/containerd.sock", "only TCP"},
		{"", "10.42.3.9:80", "only TCP"},
	} {
		err := p.Allow(c.network, c.address)
		switch {
		case c.why == "" && err != nil:
			t.Errorf("%s %s: %v", c.network, c.address, err)
		case c.why != "" && (!errors.As(err, new(*RefusedError)) || !strings.Contains(err.Error(), c.why)):
			t.Errorf("%s %s: %v, want a refusal with %q", c.network, c.address, err, c.why)
		}
	}
}
