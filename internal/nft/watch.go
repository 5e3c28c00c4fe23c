package nft

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Watch calls lost whenever someone deleted the table, as restarting a firewall
// service that begins with "flush ruleset" does, until the context ends. It may
// call without need when it missed what happened. The table of a family is the
// kernel's to name: a deletion in either family counts.
func Watch(ctx context.Context, table string, lost func()) error {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return fmt.Errorf("watch nftables: %w", err)
	}
	defer c.Close()
	_ = c.SetReadBuffer(socketBuffer)
	if err := c.JoinGroup(unix.NFNLGRP_NFTABLES); err != nil {
		return fmt.Errorf("watch nftables: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	for {
		messages, err := c.Receive()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ENOBUFS):
			lost() // too much happened at once to be told
		case err != nil:
			return fmt.Errorf("watch nftables: %w", err)
		case deletes(messages, table):
			lost()
		}
	}
}

func deletes(messages []netlink.Message, table string) bool {
	const deleted = netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_DELTABLE)
	for _, m := range messages {
		if m.Header.Type != deleted || len(m.Data) < 4 {
			continue
		}
		ad, err := netlink.NewAttributeDecoder(m.Data[4:])
		if err != nil {
			continue
		}
		for ad.Next() {
			if ad.Type() == unix.NFTA_TABLE_NAME && ad.String() == table {
				return true
			}
		}
	}
	return false
}
