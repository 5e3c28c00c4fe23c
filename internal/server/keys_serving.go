package server

import (
	"crypto/tls"
	"net"
	"net/netip"
	"slices"

	"github.com/skiff-sh/skiff/internal/pki"
)

// mostAddresses is how many addresses the API's certificate may gain while the
// server runs.
const mostAddresses = 32

// certificate is for tls.Config. Who connects to an address of this machine that
// the API's certificate does not have (it is new, or not the node's) gets one that
// has it.
func (k *keys) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if hello.ServerName == "" && hello.Conn != nil { // clients do not send addresses as names
		if at, err := netip.ParseAddrPort(hello.Conn.LocalAddr().String()); err == nil {
			k.serveAt(at.Addr().Unmap().WithZone(""))
		}
	}
	return k.serving.GetCertificate(hello)
}

// move says that this machine has other addresses now.
func (k *keys) move(addresses []netip.Addr) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.addresses = addresses
	for _, moved := range k.moved {
		select {
		case moved <- struct{}{}:
		default: // it is known already
		}
	}
}

// serveAt sees to it that the API's certificate has the address.
func (k *keys) serveAt(address netip.Addr) {
	if serves(k.serving.Pair(), address) {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	present := k.serving.Pair()
	if serves(present, address) {
		return // another connection saw to it
	}
	if !slices.Contains(k.addresses, address) {
		if len(present.Certificate.IPAddresses) > len(servingSubject(k.settings, nil).Addresses)+mostAddresses {
			return
		}
		k.addresses = append(slices.Clone(k.addresses), address)
	}
	// One that cannot be written serves as well until the next start.
	if next, _ := k.files.Reissue("serving", k.authority, servingSubject(k.settings, k.addresses)); next.Certificate != nil {
		k.serving.Set(next)
	}
}

func serves(p pki.Pair, address netip.Addr) bool {
	return slices.ContainsFunc(p.Certificate.IPAddresses, func(have net.IP) bool {
		a, _ := netip.AddrFromSlice(have)
		return a.Unmap() == address
	})
}
