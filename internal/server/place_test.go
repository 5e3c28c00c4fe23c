package server

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/skiff-sh/skiff/internal/config"
)

// Other machines are told of every way to the API, the likeliest first, and of
// none that leads them to themselves.
func TestAPIURLs(t *testing.T) {
	addr := netip.MustParseAddr
	for name, c := range map[string]struct {
		settings config.Server
		moved    []netip.Addr
		want     string
	}{
		"plain":      {config.Server{BindAddress: netip.IPv4Unspecified()}, nil, "https://192.0.2.1:6443 https://[2001:db8::1]:6443"},
		"moved":      {config.Server{BindAddress: netip.IPv4Unspecified()}, []netip.Addr{addr("198.51.100.1")}, "https://198.51.100.1:6443"},
		"advertised": {config.Server{BindAddress: netip.IPv6Unspecified(), AdvertiseAddress: addr("203.0.113.1")}, nil, "https://203.0.113.1:6443 https://192.0.2.1:6443 https://[2001:db8::1]:6443"},
		"bound":      {config.Server{BindAddress: addr("192.0.2.7")}, nil, "https://192.0.2.1:6443 https://192.0.2.7:6443"},
		"on loopback, with names": {config.Server{BindAddress: loopback, TLSSANs: []string{"box.example.org", "*.example.org", "192.0.2.1", "192.0.2.9"}}, nil,
			"https://192.0.2.1:6443 https://box.example.org:6443 https://192.0.2.9:6443"},
	} {
		c.settings.HTTPSListenPort = 6443
		s := &server{settings: c.settings, addresses: []netip.Addr{addr("192.0.2.1"), addr("2001:db8::1")}}
		if c.moved != nil {
			s.moved.Store(&c.moved)
		}
		if got := strings.Join(s.apiURLs(), " "); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}
