package mesh

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/network"
)

func vxlanName(h config.Host) string { return h.LinkPrefix + "vx" }
func relayName(h config.Host) string { return h.LinkPrefix + "relay" }

// linked says whether this host's data directory has links of the mesh.
func linked(h config.Host) bool {
	for _, name := range []string{vxlanName(h), relayName(h)} {
		if _, err := netlink.LinkByName(name); err == nil {
			return true
		}
	}
	return false
}

// settle brings a link up with the node's addresses in the Pod range: the one
// that probes ask for, and the gateway, which they come from. One without any
// would take nothing from peers whose way back is another (see network.Loose).
// Their scope keeps the kernel from choosing them for anything else.
func settle(link netlink.Link, own netip.Prefix, mtu int) error {
	name := link.Attrs().Name
	if link.Attrs().MTU != mtu {
		if err := netlink.LinkSetMTU(link, mtu); err != nil {
			return fmt.Errorf("set MTU of %s: %w", name, err)
		}
	}
	if err := network.PrepareLink(name, network.Loose); err != nil {
		return err
	}
	if err := setAddresses(link, beacon(own), gateway(own)); err != nil {
		return err
	}
	if link.Attrs().Flags&net.FlagUp != 0 {
		return nil
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring %s up: %w", name, err)
	}
	return nil
}

// setAddresses gives a link the addresses and no others.
func setAddresses(link netlink.Link, want ...netip.Addr) error {
	name := link.Attrs().Name
	have, err := network.Addresses(link, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("list addresses of %s: %w", name, err)
	}
	missing := map[netip.Addr]bool{}
	for _, a := range want {
		missing[a] = true
	}
	for _, a := range have {
		if ip, ok := netip.AddrFromSlice(a.IP); ok && missing[ip.Unmap()] {
			delete(missing, ip.Unmap())
		} else if err := netlink.AddrDel(link, &a); err != nil {
			return fmt.Errorf("remove address %s from %s: %w", a.IP, name, err)
		}
	}
	for ip := range missing {
		err := netlink.AddrAdd(link, &netlink.Addr{IPNet: network.Single(ip), Scope: unix.RT_SCOPE_HOST})
		if err != nil {
			return fmt.Errorf("add address %s to %s: %w", ip, name, err)
		}
	}
	return nil
}

// openRelay opens the link whose packets go by way of the servers, making it
// unless it is there. It stays when the file is closed, and the routes over it:
// a restart loses packets but no connection.
func openRelay(h config.Host, own netip.Prefix, mtu int) (*os.File, int, error) {
	name := relayName(h)
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, fmt.Errorf("open /dev/net/tun: %w; load the module tun", err)
	}
	file, err := attachRelay(fd, name)
	if err != nil {
		unix.Close(fd)
		return nil, 0, fmt.Errorf("open link %s: %w", name, err)
	}
	index, err := settleRelay(h, own, mtu)
	if err != nil {
		return nil, 0, errors.Join(err, file.Close())
	}
	return file, index, nil
}

// settleRelay prepares the link, which is there, and returns its index.
func settleRelay(h config.Host, own netip.Prefix, mtu int) (int, error) {
	link, err := netlink.LinkByName(relayName(h))
	if err != nil {
		return 0, fmt.Errorf("find link %s: %w", relayName(h), err)
	}
	return link.Attrs().Index, settle(link, own, mtu)
}

func attachRelay(fd int, name string) (*os.File, error) {
	request, err := unix.NewIfreq(name)
	if err != nil {
		return nil, err
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		return nil, err
	}
	if err := unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 1); err != nil {
		return nil, err
	}
	// Only now: the runtime's poller takes it when it has a link.
	return os.NewFile(uintptr(fd), "/dev/net/tun"), nil
}

// Cleanup removes everything that the mesh of this host's data directory made:
// links and routes. It is for killall; nothing that runs may still use them.
func Cleanup(h config.Host) error {
	var errs []error
	for _, name := range []string{vxlanName(h), relayName(h)} {
		link, err := netlink.LinkByName(name)
		if errors.As(err, new(netlink.LinkNotFoundError)) {
			continue
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("find link %s: %w", name, err))
			continue
		}
		// Routes by other links are this node's if they have its address.
		errs = append(errs, removeRoutesFrom(link), network.DeleteLink(name))
	}
	return errors.Join(errs...)
}

func removeRoutesFrom(link netlink.Link) error {
	addrs, err := network.Addresses(link, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("list addresses of %s: %w", link.Attrs().Name, err)
	}
	routes, err := network.Routes(netlink.FAMILY_V4, &netlink.Route{Protocol: network.MeshRoutes}, netlink.RT_FILTER_PROTOCOL)
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	var errs []error
	for _, r := range routes {
		for _, a := range addrs {
			if !a.IP.Equal(r.Src) {
				continue
			}
			if err := netlink.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
				errs = append(errs, fmt.Errorf("remove route to %s: %w", r.Dst, err))
			}
		}
	}
	return errors.Join(errs...)
}
