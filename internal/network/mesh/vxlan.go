package mesh

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"unsafe"

	rtnetlink "github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/network"
)

// VXLAN as flannel has it, so that firewalls that know flannel know this.
const (
	vxlanID   = 1
	vxlanPort = 8472
)

// ensureVXLAN makes the link that wraps packets for other nodes into UDP, unless
// it is there, and returns its index. Nothing is learnt and nobody is asked
// where a peer is: the plan says it.
func ensureVXLAN(h config.Host, own netip.Prefix, mtu int) (int, error) {
	link, err := vxlanLink(h, vtepMAC(gateway(own)), mtu)
	if err != nil {
		return 0, err
	}
	name := link.Attrs().Name
	if mac := vtepMAC(gateway(own)); link.Attrs().HardwareAddr.String() != mac.String() {
		if err := netlink.LinkSetHardwareAddr(link, mac); err != nil {
			return 0, fmt.Errorf("set hardware address of %s: %w", name, err)
		}
	}
	if miscounts() {
		if err := sumInSoftware(name); err != nil {
			return 0, err
		}
	}
	return link.Attrs().Index, settle(link, own, mtu)
}

// vxlanLink returns the link, which may be one that a former process left.
func vxlanLink(h config.Host, mac net.HardwareAddr, mtu int) (netlink.Link, error) {
	name := vxlanName(h)
	link, err := netlink.LinkByName(name)
	if err == nil {
		if have, is := link.(*netlink.Vxlan); is && have.VxlanId == vxlanID && have.Port == vxlanPort && !have.Learning && !have.UDPCSum {
			return link, nil
		}
		if err := network.DeleteLink(name); err != nil {
			return nil, err
		}
	} else if !errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil, fmt.Errorf("find link %s: %w", name, err)
	}
	if err := addVXLAN(name, mac, mtu); err != nil {
		return nil, fmt.Errorf("add VXLAN link %s: %w", name, err)
	}
	if link, err = netlink.LinkByName(name); err != nil {
		return nil, fmt.Errorf("find link %s: %w", name, err)
	}
	return link, nil
}

// addVXLAN makes the link, without UDP checksums, as RFC 7348 has it: what is
// inside has its own. A NAT that a virtual machine's packets pass before the
// host's network card has computed that one spoils the outer, and only the
// outer one of such packets: echoes would pass and TCP would not.
func addVXLAN(name string, mac net.HardwareAddr, mtu int) error {
	c, err := rtnetlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	e := rtnetlink.NewAttributeEncoder()
	e.String(unix.IFLA_IFNAME, name)
	e.Uint32(unix.IFLA_MTU, uint32(mtu))
	e.Bytes(unix.IFLA_ADDRESS, mac)
	e.Nested(unix.IFLA_LINKINFO, func(e *rtnetlink.AttributeEncoder) error {
		e.String(unix.IFLA_INFO_KIND, "vxlan")
		e.Nested(unix.IFLA_INFO_DATA, func(e *rtnetlink.AttributeEncoder) error {
			e.Uint32(unix.IFLA_VXLAN_ID, vxlanID)
			e.Bytes(unix.IFLA_VXLAN_PORT, binary.BigEndian.AppendUint16(nil, vxlanPort))
			e.Uint8(unix.IFLA_VXLAN_LEARNING, 0)
			e.Uint8(unix.IFLA_VXLAN_UDP_CSUM, 0)
			return nil
		})
		return nil
	})
	attributes, err := e.Encode()
	if err != nil {
		return err
	}
	_, err = c.Execute(rtnetlink.Message{
		Header: rtnetlink.Header{
			Type:  unix.RTM_NEWLINK,
			Flags: rtnetlink.Request | rtnetlink.Acknowledge | rtnetlink.Create | rtnetlink.Excl,
		},
		Data: append(make([]byte, unix.SizeofIfInfomsg), attributes...),
	})
	return err
}

// miscounts says whether a link of this machine is of a kind that is known to
// put wrong checksums into what VXLAN wraps: vmxnet3 computes those of
// encapsulated packets for ports that it knows as VXLAN's, and 8472 it does not.
// Echoes pass all the same, since theirs are computed in software, so that no
// probe would tell.
func miscounts() bool {
	drivers, err := filepath.Glob("/sys/class/net/*/device/driver")
	if err != nil {
		return false
	}
	for _, d := range drivers {
		if to, err := os.Readlink(d); err == nil && filepath.Base(to) == "vmxnet3" {
			return true
		}
	}
	return false
}

// sumInSoftware has the checksums of what goes into the link computed before it
// is wrapped, as `ethtool -K LINK tx off` does.
func sumInSoftware(name string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open a socket: %w", err)
	}
	defer unix.Close(fd)
	value := struct{ command, data uint32 }{command: unix.ETHTOOL_STXCSUM}
	request := struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte // the rest of struct ifreq's union
	}{data: unsafe.Pointer(&value)}
	copy(request.name[:unix.IFNAMSIZ-1], name)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request)))
	if errno != 0 {
		return fmt.Errorf("compute checksums of %s in software: %w", name, errno)
	}
	return nil
}
