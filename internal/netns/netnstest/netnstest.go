// Package netnstest gives tests a machine of their own: Main runs a package's
// tests in fresh network and mount namespaces, so that links, routes, rules
// and pins vanish with the test's process, however it ends. Namespace, Echo,
// Ask and Link build Pods and neighbours in it. It is for tests only.
//
// The address plan of all network tests:
//
//	10.42.0.0/16   Pods; 10.42.0.0/24 this node's, 10.42.0.1 the node itself
//	10.43.0.0/16   Services; 10.43.0.10 DNS
//	192.0.2.1      the node, on its uplink
//	192.0.2.2      a machine outside, which knows nothing of the ranges
//	198.51.100.0/24  addresses behind that machine
package netnstest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	skiffnetns "github.com/skiff-sh/skiff/internal/netns"
)

const inside = "SKIFF_TEST_NAMESPACE"

// Timeout is how long anything in a network test may take.
const Timeout = 5 * time.Second

// Main runs the tests in namespaces of their own and returns the exit code.
// Without root it runs none.
func Main(m *testing.M) int {
	if os.Getenv(inside) != "" {
		lo, err := netlink.LinkByName("lo")
		if err == nil {
			err = netlink.LinkSetUp(lo)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "bring loopback up:", err)
			return 1
		}
		return m.Run()
	}
	if os.Getuid() != 0 {
		fmt.Fprintln(os.Stderr, "skipped: network tests need root")
		return 0
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Unshareflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL,
	}
	err := cmd.Run()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		return exit.ExitCode()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "run tests in a namespace:", err)
		return 1
	}
	return 0
}

// Namespace pins a network namespace for the test.
func Namespace(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "net")
	if err := skiffnetns.Create(path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := skiffnetns.Remove(path); err != nil {
			t.Error(err)
		}
	})
	return path
}

// In runs fn in the namespace pinned at path, or here if path is empty.
func In(t testing.TB, path string, fn func() error) {
	t.Helper()
	err := error(nil)
	if path == "" {
		err = fn()
	} else {
		err = skiffnetns.Do(path, fn)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Outside makes the machine outside, linked to this one by the uplink "up0",
// which gets the default route. Addresses behind it answer there.
func Outside(t testing.TB, behind ...string) string {
	t.Helper()
	path := Namespace(t)
	ns, err := netns.GetFromPath(path)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "up0"
	must(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(ns)}))
	up, err := netlink.LinkByName("up0")
	must(t, err)
	t.Cleanup(func() { _ = netlink.LinkDel(up) })
	must(t, netlink.AddrAdd(up, address(t, "192.0.2.1/24")))
	must(t, netlink.LinkSetUp(up))
	must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: up.Attrs().Index, Gw: net.IPv4(192, 0, 2, 2)}))
	In(t, path, func() error {
		eth, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		for _, a := range append([]string{"192.0.2.2/24"}, behind...) {
			if err := netlink.AddrAdd(eth, address(t, a)); err != nil {
				return err
			}
		}
		return netlink.LinkSetUp(eth)
	})
	return path
}

func address(t testing.TB, s string) *netlink.Addr {
	t.Helper()
	a, err := netlink.ParseAddr(s)
	must(t, err)
	return a
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Echo serves TCP and UDP on the port of every address in the namespace (here
// if path is empty) and answers everyone with "NAME REMOTE-ADDRESS".
func Echo(t testing.TB, path, name string, port uint16) {
	t.Helper()
	var l net.Listener
	var p net.PacketConn
	at := netip.AddrPortFrom(netip.IPv4Unspecified(), port).String()
	In(t, path, func() (err error) {
		if l, err = net.Listen("tcp4", at); err != nil {
			return err
		}
		p, err = net.ListenPacket("udp4", at)
		return err
	})
	done := make(chan struct{}, 2)
	go func() {
		defer func() { done <- struct{}{} }()
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprintf(c, "%s %s", name, host(c.RemoteAddr()))
			c.Close()
		}
	}()
	go func() {
		defer func() { done <- struct{}{} }()
		buf := make([]byte, 1500)
		for {
			_, from, err := p.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = p.WriteTo([]byte(name+" "+host(from)), from)
		}
	}()
	t.Cleanup(func() {
		l.Close()
		p.Close()
		<-done
		<-done
	})
}

func host(a net.Addr) string {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return a.String()
	}
	return ap.Addr().Unmap().String()
}

// Ask connects from the namespace (from here if path is empty) and returns
// what an Echo server answers: its name and whom it saw.
func Ask(path, network, addr string) (name, sees string, err error) {
	c, err := Dial(path, network, addr)
	if err != nil {
		return "", "", err
	}
	defer c.Close()
	return Talk(c)
}

// Talk asks the Echo server at the other end of a connection.
func Talk(c net.Conn) (name, sees string, err error) { return TalkWithin(c, Timeout) }

// TalkWithin is Talk with a time of one's own.
func TalkWithin(c net.Conn, d time.Duration) (name, sees string, err error) {
	_ = c.SetDeadline(time.Now().Add(d))
	if c.LocalAddr().Network() == "udp" {
		if _, err := c.Write([]byte("who?")); err != nil {
			return "", "", err
		}
	}
	buf := make([]byte, 1500)
	n, err := c.Read(buf)
	if err != nil {
		return "", "", err
	}
	name, sees, _ = strings.Cut(string(buf[:n]), " ")
	return name, sees, nil
}

// NFT prints the table as the nft command sees it.
func NFT(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.Command("nft", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("nft %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// Dial connects from the namespace, or from here if path is empty.
func Dial(path, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), Timeout)
	defer cancel()
	if path == "" {
		var d net.Dialer
		return d.DialContext(ctx, network, addr)
	}
	return skiffnetns.DialIn(ctx, path, network, addr)
}
