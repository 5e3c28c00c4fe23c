package network

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	rtnetlink "github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestDump(t *testing.T) {
	other := errors.New("other")
	for _, test := range []struct {
		name    string
		answers []error
		want    error
		asked   int
	}{
		{"whole", []error{nil}, nil, 1},
		{"interrupted", []error{netlink.ErrDumpInterrupted, fmt.Errorf("list: %w", netlink.ErrDumpInterrupted), nil}, nil, 3},
		{"failed", []error{netlink.ErrDumpInterrupted, other, nil}, other, 2},
	} {
		asked := 0
		got, err := dump(func() ([]int, error) {
			asked++
			return []int{asked}, test.answers[asked-1]
		})
		if !errors.Is(err, test.want) || asked != test.asked || len(got) != 1 || got[0] != test.asked {
			t.Errorf("%s: %v, %v after %d", test.name, got, err, asked)
		}
	}
	if _, err := dump(func() ([]int, error) { return nil, netlink.ErrDumpInterrupted }); !errors.Is(err, netlink.ErrDumpInterrupted) {
		t.Errorf("interrupted for ever: %v", err)
	}
}

func TestMatter(t *testing.T) {
	run := func(command string) {
		t.Helper()
		if out, err := exec.Command("sh", "-ec", command).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
	}
	run("ip link add m0 type bridge; ip link add other type bridge; ip link set other up")
	t.Cleanup(func() { run("ip link del m0; ip link del other; ip link del p0") })
	for _, tc := range []struct {
		what, do string
		want     bool
	}{
		{"address", "ip addr add 192.0.2.9/24 dev other", true},
		{"address of a smaller scope", "ip addr add 10.42.0.1/32 dev other scope host", false},
		{"route", "ip route add 198.51.100.0/24 dev other", true},
		{"Pod's route", "ip route add 10.42.0.7/32 dev other proto 83", false},
		{"Pod's route that goes", "ip route del 10.42.0.7/32", false},
		{"route to a node", "ip route add 10.42.1.0/24 dev other proto 84", false},
		{"route to a node that someone deletes", "ip route del 10.42.1.0/24", true},
		{"route under test", "ip route add 10.42.1.0/32 dev other proto 84", false},
		{"route under test that goes", "ip route del 10.42.1.0/32", false},
		{"unreachable range", "ip route add unreachable 10.42.0.0/16 proto 83; ip route del unreachable 10.42.0.0/16", false},
		{"MTU", "ip link set other mtu 1400", true},
		{"Pod's link", "ip link add s12340123456789 type bridge", false},
		{"Pod's link that goes", "ip link del s12340123456789", false},
		{"port of a bridge", "ip link add p0 type veth peer name s1234abcdefabcd; ip link set p0 master other", true}, // before it is one
		{"port of a bridge that comes up", "ip link set p0 up", false},
		{"mesh's link", "ip link add s1234vx type bridge", true},
		{"mesh's link that goes", "ip link del s1234vx", true},
	} {
		got := false
		for _, m := range messagesOf(t, func() { run(tc.do) }) {
			got = got || matter([]rtnetlink.Message{m}, "s1234")
		}
		if got != tc.want {
			t.Errorf("%s matters: %v, want %v", tc.what, got, tc.want)
		}
	}
}

// messagesOf returns what the kernel tells of what do does.
func messagesOf(t *testing.T, do func()) (all []rtnetlink.Message) {
	t.Helper()
	c, err := rtnetlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, group := range []uint32{unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV4_ROUTE} {
		if err := c.JoinGroup(group); err != nil {
			t.Fatal(err)
		}
	}
	do()
	if out, err := exec.Command("ip", "link", "add", "fence", "type", "bridge").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	defer func() { _ = exec.Command("ip", "link", "del", "fence").Run() }()
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	for {
		messages, err := c.Receive()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range messages {
			if strings.Contains(string(m.Data), "fence\x00") {
				return all
			}
			all = append(all, m)
		}
	}
}
