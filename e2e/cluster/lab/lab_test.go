package lab

import (
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/skiff-sh/skiff/e2e/await"
)

func testConfig(t *testing.T) Config {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("makes namespaces: needs root")
	}
	dir := t.TempDir()
	return Config{Dir: dir, Pins: filepath.Join(dir, "net") + "/", Skiff: "/bin/true"}
}

// Who reaches whom is what the places promise.
func TestPlaces(t *testing.T) {
	c := testConfig(t)
	t.Cleanup(func() {
		if err := Remove(c); err != nil {
			t.Error(err)
		}
	})
	l, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	nodes := map[string]*Node{}
	for name, place := range map[string]Place{"near": Near, "other": Near, "far": Far, "hidden": Hidden} {
		n, err := l.Add(name, place)
		if err != nil {
			t.Fatal(err)
		}
		nodes[name] = n
		listen(t, n)
	}
	// A link that was just made takes a moment until it carries anything.
	reaches := func(from string, to netip.Addr, want bool) bool {
		patience := 300 * time.Millisecond
		if want {
			patience = 10 * time.Second
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		return await.Try(ctx, func() error {
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			conn, err := nodes[from].Dial(ctx, "tcp", netip.AddrPortFrom(to, 7777).String())
			if err == nil {
				conn.Close()
			}
			return err
		}) == nil
	}
	for _, c := range []struct {
		from, to string
		want     bool
	}{
		{"near", "other", true}, {"near", "far", true}, {"far", "near", true}, {"near", "hidden", false}, {"far", "hidden", false},
		{"hidden", "near", true}, {"hidden", "far", true},
	} {
		if got := reaches(c.from, nodes[c.to].Address, c.want); got != c.want {
			t.Errorf("%s reaches %s: %t, want %t", c.from, c.to, got, c.want)
		}
	}
	if reaches("near", netip.MustParseAddr("192.0.2.200"), false) {
		t.Error("the NAT lets someone in")
	}
	if out, err := nodes["near"].Command(t.Context(), "hostname").Output(); err != nil || string(out) != "near\n" {
		t.Errorf("host name %q, %v", out, err)
	}

	near := nodes["near"]
	for _, step := range []struct {
		do   func() error
		want bool
	}{
		{near.Cut, false}, {near.Mend, true},
		{func() error { return near.Move(netip.MustParseAddr("192.0.2.99")) }, true},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		if got := reaches("far", near.Address, step.want); got != step.want {
			t.Errorf("far reaches %s: %t, want %t", near.Address, got, step.want)
		}
	}
}

// listen accepts connections on every address of the node.
func listen(t *testing.T, n *Node) {
	t.Helper()
	var l net.Listener
	if err := n.Do(func() (err error) { l, err = net.Listen("tcp4", ":7777"); return err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
}

// Whatever runs in a lab ends with it, and it can be removed in any state.
func TestRemove(t *testing.T) {
	c := testConfig(t)
	if err := Remove(c); err != nil {
		t.Errorf("nothing to remove: %v", err)
	}
	l, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	n, err := l.Add("box", Near)
	if err != nil {
		t.Fatal(err)
	}
	cmd := n.Command(t.Context(), "sh", "-c", "echo inside; exec sleep 1000")
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	if !Exists(c) {
		t.Error("the lab is not there")
	}
	for range 2 {
		if err := Remove(c); err != nil {
			t.Error(err)
		}
	}
	if err := <-ended; err == nil {
		t.Error("the process was not killed")
	}
	if Exists(c) {
		t.Error("the lab is still there")
	}
	if left, err := Leftovers(c, "box"); err != nil || len(left) > 0 {
		t.Errorf("left %q, %v", left, err)
	}
}
