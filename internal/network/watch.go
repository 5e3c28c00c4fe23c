package network

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// watchBuffer holds what happens while changed is running.
const watchBuffer = 1 << 20

// Watch calls changed when it has begun and whenever the machine's links,
// addresses or routes may have changed since, until the context ends. What comes and goes with Pods does not
// count: their links, named with the prefix, and their routes; nor do the ports
// of bridges. It may call without need, and does when it missed what happened.
func Watch(ctx context.Context, linkPrefix string, changed func()) error {
	c, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return fmt.Errorf("watch links and routes: %w", err)
	}
	defer c.Close()
	_ = c.SetReadBuffer(watchBuffer)
	for _, group := range []uint32{
		unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_IFADDR,
	} {
		if err := c.JoinGroup(group); err != nil {
			return fmt.Errorf("watch links and routes: %w", err)
		}
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	changed()
	for {
		messages, err := c.Receive()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ENOBUFS):
			changed()
		case err != nil:
			return fmt.Errorf("watch links and routes: %w", err)
		case matter(messages, linkPrefix):
			changed()
		}
	}
}

func matter(messages []netlink.Message, linkPrefix string) bool {
	for _, m := range messages {
		switch m.Header.Type {
		case unix.RTM_NEWLINK, unix.RTM_DELLINK:
			if linkMatters(m.Data, linkPrefix) {
				return true
			}
		case unix.RTM_NEWADDR, unix.RTM_DELADDR:
			if len(m.Data) >= unix.SizeofIfAddrmsg && m.Data[3] == unix.RT_SCOPE_UNIVERSE {
				return true
			}
		case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
			if routeMatters(m.Header.Type, m.Data) {
				return true
			}
		}
	}
	return false
}

func linkMatters(data []byte, linkPrefix string) bool {
	if len(data) < unix.SizeofIfInfomsg {
		return false
	}
	ad, err := netlink.NewAttributeDecoder(data[unix.SizeofIfInfomsg:])
	if err != nil {
		return false
	}
	for ad.Next() {
		switch ad.Type() {
		case unix.IFLA_IFNAME:
			if IsPodLink(ad.String(), linkPrefix) {
				return false
			}
		case unix.IFLA_MASTER, unix.IFLA_WIRELESS: // a port of another link; what a radio hears
			return false
		}
	}
	return true
}

// routeMatters reads struct rtmsg: the destination's length, table, protocol and
// type are at 1, 4, 5 and 7.
func routeMatters(kind netlink.HeaderType, data []byte) bool {
	if len(data) < unix.SizeofRtMsg || data[4] != unix.RT_TABLE_MAIN || data[7] != unix.RTN_UNICAST {
		return false
	}
	switch data[5] {
	case PodRoutes:
		return false
	case MeshRoutes:
		// Routes to single addresses come and go with the mesh's tests; another
		// that goes may have been deleted by someone else.
		return kind == unix.RTM_DELROUTE && data[1] != 32
	}
	return true
}

// IsPodLink says whether a link's name is one that Pods' links have on a host
// with the prefix.
func IsPodLink(name, linkPrefix string) bool {
	rest, is := strings.CutPrefix(name, linkPrefix)
	return is && len(name) == MaxLinkName && strings.Trim(rest, "0123456789abcdef") == ""
}
