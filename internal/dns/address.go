package dns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/skiff-sh/skiff/internal/config"
)

// label marks the addresses on the loopback, so that clean-up knows them by
// the host's names alone.
func label(h config.Host) string { return "lo:" + h.LinkPrefix + "dns" }

// addAddress puts a DNS address on the loopback unless the machine has it. Its
// scope keeps the kernel from choosing it as a source.
func addAddress(h config.Host, a netip.Addr) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find loopback: %w", err)
	}
	if a.IsLoopback() || a.IsUnspecified() {
		return nil
	}
	addr := &netlink.Addr{
		IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}, Scope: unix.RT_SCOPE_HOST,
	}
	if a.Is4() {
		addr.Label = label(h)
	} else {
		addr.Flags = unix.IFA_F_NODAD
	}
	if err := netlink.AddrReplace(lo, addr); err != nil {
		return fmt.Errorf("add DNS address %s to the loopback: %w", a, err)
	}
	return nil
}

// Cleanup removes the DNS addresses of the host's data directory, for killall.
func Cleanup(h config.Host) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find loopback: %w", err)
	}
	have, err := netlink.AddrList(lo, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("list addresses of the loopback: %w", err)
	}
	var errs []error
	for _, a := range have {
		if a.Label == label(h) {
			if err := netlink.AddrDel(lo, &a); err != nil {
				errs = append(errs, fmt.Errorf("remove DNS address %s from the loopback: %w", a.IP, err))
			}
		}
	}
	return errors.Join(errs...)
}
