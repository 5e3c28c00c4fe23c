package api

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/state"
)

// addresses are the ranges of cluster addresses, the default family's first.
type addresses []addressRange

// addressRange is a prefix without the addresses that name the network itself.
type addressRange struct {
	prefix netip.Prefix
	family corev1.IPFamily
	size   uint64 // addresses to give out, the first being prefix + 1
	offset uint64 // where those begin that nobody asked for
}

func newAddresses(prefixes []netip.Prefix) addresses {
	var out addresses
	for _, p := range prefixes {
		p = p.Masked()
		r := addressRange{prefix: p, family: familyOf(p.Addr())}
		// 62 bits are more than anybody gives out and keep the sums in range.
		total := uint64(1) << min(p.Addr().BitLen()-p.Bits(), 62)
		reserved := uint64(1)
		if p.Addr().Is4() {
			reserved = 2 // the broadcast address
		}
		if total > reserved {
			r.size = total - reserved
		}
		r.offset = staticBand(total, 16, 256)
		out = append(out, r)
	}
	return out
}

// staticBand is how many names at the beginning of a range are kept for those
// who ask for a certain one: a step-th part, 16 at least and most at most, none
// in a range that is too small for it.
func staticBand(size, step, most uint64) uint64 {
	if size <= 16 {
		return 0
	}
	return min(max(16, size/step), most)
}

func familyOf(ip netip.Addr) corev1.IPFamily {
	if ip.Is4() {
		return corev1.IPv4Protocol
	}
	return corev1.IPv6Protocol
}

// of returns the range of a family, or nil.
func (a addresses) of(family corev1.IPFamily) *addressRange {
	for i := range a {
		if a[i].family == family {
			return &a[i]
		}
	}
	return nil
}

// at returns the n-th address to give out.
func (r *addressRange) at(n uint64) netip.Addr {
	b := r.prefix.Addr().As16()
	low := binary.BigEndian.Uint64(b[8:])
	binary.BigEndian.PutUint64(b[8:], low+n+1)
	ip := netip.AddrFrom16(b)
	if r.prefix.Addr().Is4() {
		return ip.Unmap()
	}
	return ip
}

// gives reports whether an address is one to give out.
func (r *addressRange) gives(ip netip.Addr) bool {
	return r.prefix.Contains(ip) && r.at(0).Compare(ip) <= 0 && ip.Compare(r.at(r.size-1)) <= 0
}

func addressClaim(ip netip.Addr) state.Claim {
	return state.Claim{Table: tableClusterIPs, Name: ip.String()}
}

// allocateAddresses gives the Service an address of each of its families, those
// it names where it names some. One that had addresses keeps the first.
func (a *API) allocateAddresses(c *claims, svc, before *corev1.Service) error {
	switch {
	case !hasAddress(svc):
		return nil
	case before == nil || !needsAddress(before):
		return a.addressEach(c, svc, 0)
	case !hasAddress(before):
		return nil // validation refuses the change
	}
	for _, ip := range svc.Spec.ClusterIPs {
		if claim := (state.Claim{Table: tableClusterIPs, Name: ip}); c.held[claim] {
			c.wants[claim] = true
		}
	}
	if len(before.Spec.IPFamilies) == 1 && len(svc.Spec.IPFamilies) == 2 {
		return a.addressEach(c, svc, 1)
	}
	return nil
}

// addressEach allocates for the families from the given one on.
func (a *API) addressEach(c *claims, svc *corev1.Service, from int) error {
	s := &svc.Spec
	for len(s.ClusterIPs) < len(s.IPFamilies) {
		s.ClusterIPs = append(s.ClusterIPs, "")
	}
	for i := from; i < len(s.IPFamilies); i++ {
		r := a.addresses.of(s.IPFamilies[i])
		if s.ClusterIPs[i] != "" {
			if err := r.take(c, s.ClusterIPs[i]); err != nil {
				return invalidService(svc, field.ErrorList{field.Invalid(field.NewPath("spec", "clusterIPs"), s.ClusterIPs,
					fmt.Sprintf("failed to allocate IP %v: %v", s.ClusterIPs[i], err))})
			}
			continue
		}
		ip, err := r.pick(c)
		if err != nil {
			return apierrors.NewInternalError(fmt.Errorf("failed to allocate a serviceIP for Service %q: %w", svc.Name, err))
		}
		s.ClusterIPs[i] = ip.String()
	}
	s.ClusterIP = s.ClusterIPs[0]
	return nil
}

// pick claims a free address. A dry run is given that of the range itself.
func (r *addressRange) pick(c *claims) (netip.Addr, error) {
	if c.dry {
		return r.prefix.Addr(), nil
	}
	n, err := c.pick(r.size, r.offset, func(n uint64) state.Claim { return addressClaim(r.at(n)) })
	return r.at(n), err
}

// take claims the address that was asked for, which is one of the family. A dry
// run looks only at the range, as upstream's does.
func (r *addressRange) take(c *claims, text string) error {
	ip, err := netip.ParseAddr(text)
	switch {
	case err != nil:
		return err
	case !r.gives(ip) && c.dry:
		return fmt.Errorf("the provided IP (%v) is not in the valid range. The range of valid IPs is %s", ip, r.prefix)
	case !r.gives(ip):
		return errAddressElsewhere
	case !c.take(addressClaim(ip)) && !c.dry:
		return errAddressClaimed
	}
	return nil
}

// ports are the node ports.
type ports struct {
	first  int32
	size   uint64
	offset uint64
}

func newPorts(r config.PortRange) ports {
	size := uint64(0)
	if r.Last >= r.First && r.First > 0 {
		size = uint64(r.Last-r.First) + 1
	}
	return ports{first: int32(r.First), size: size, offset: staticBand(size, 32, 128)}
}

func portClaim(port int32) state.Claim {
	return state.Claim{Table: tableNodePorts, Name: strconv.Itoa(int(port))}
}

// pick claims a free port. A dry run is given those behind the last it claimed.
func (p ports) pick(c *claims) (int32, error) {
	if c.dry {
		next := c.nextPort()
		c.wants[portClaim(next)] = true
		return next, nil
	}
	n, err := c.pick(p.size, p.offset, func(n uint64) state.Claim { return portClaim(p.first + int32(n)) })
	return p.first + int32(n), err
}

// take claims the port that was asked for. A dry run looks only at who has it, as
// upstream's does.
func (p ports) take(c *claims, port int32) error {
	if !c.dry && (port < p.first || uint64(port-p.first) >= p.size) {
		return fmt.Errorf("provided port is not in the valid range. The range of valid ports is %d-%d", p.first, p.first+int32(p.size)-1)
	}
	if !c.take(portClaim(port)) {
		return errPortClaimed
	}
	return nil
}
