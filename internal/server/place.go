package server

import (
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// move says that this machine has other addresses now. What tells others of them
// is asked anew when the node tells of them too.
func (s *server) move(addresses []netip.Addr) {
	s.moved.Store(&addresses)
	s.keys.move(addresses)
}

// addressesNow are those of this machine.
func (s *server) addressesNow() []netip.Addr {
	if moved := s.moved.Load(); moved != nil {
		return *moved
	}
	return s.addresses
}

// advertised is the address under which Pods and nodes reach the API.
func (s *server) advertised() netip.Addr {
	if s.settings.AdvertiseAddress.IsValid() {
		return s.settings.AdvertiseAddress
	}
	return s.addressesNow()[0]
}

// apiURLs are where other machines may reach the API, the likeliest first.
func (s *server) apiURLs() []string {
	hosts := []string{s.advertised().String()}
	switch bind := s.settings.BindAddress; {
	case bind.IsUnspecified():
		for _, a := range s.addressesNow() {
			hosts = append(hosts, a.String())
		}
	case !bind.IsLoopback(): // which on another machine leads to itself
		hosts = append(hosts, bind.String())
	}
	var urls []string
	for _, host := range append(hosts, s.settings.TLSSANs...) {
		url := "https://" + net.JoinHostPort(host, strconv.Itoa(s.settings.HTTPSListenPort))
		if !strings.Contains(host, "*") && !slices.Contains(urls, url) {
			urls = append(urls, url)
		}
	}
	return urls
}
