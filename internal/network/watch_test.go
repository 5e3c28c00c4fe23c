package network_test

import (
	"context"
	"os/exec"
	"testing"
	"time"

	"github.com/skiff-sh/skiff/internal/netns/netnstest"
	"github.com/skiff-sh/skiff/internal/network"
)

func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %v: %v\n%s", args, err, out)
	}
}

func TestWatch(t *testing.T) {
	changes := make(chan struct{}, 100)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- network.Watch(ctx, "s1234", func() { changes <- struct{}{} }) }()
	for _, what := range []string{"that it has begun", "of a link that comes", "of a link that goes"} {
		select {
		case <-changes:
		case <-time.After(netnstest.Timeout):
			t.Fatalf("not told %s", what)
		}
		if what == "that it has begun" {
			ip(t, "link", "add", "other", "type", "bridge")
		} else if what == "of a link that comes" {
			ip(t, "link", "del", "other")
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestPodMTU(t *testing.T) {
	if got := network.PodMTU(); got != 1450 {
		t.Errorf("without any link it is %d", got)
	}
	for _, name := range []string{"first", "second", "bare"} {
		ip(t, "link", "add", name, "type", "bridge")
		t.Cleanup(func() { ip(t, "link", "del", name) })
		ip(t, "link", "set", name, "up")
	}
	ip(t, "link", "set", "bare", "mtu", "1300")
	ip(t, "addr", "add", "10.42.0.1/32", "dev", "bare", "scope", "host")
	ip(t, "link", "set", "first", "mtu", "9000")
	ip(t, "addr", "add", "192.0.2.1/24", "dev", "first")
	if got := network.PodMTU(); got != 8950 {
		t.Errorf("with one addressed link of 9000 it is %d", got)
	}
	ip(t, "addr", "add", "198.51.100.1/24", "dev", "second")
	if got := network.PodMTU(); got != 1450 {
		t.Errorf("with links of 9000 and 1500 it is %d", got)
	}
	ip(t, "route", "add", "default", "dev", "first")
	if got := network.PodMTU(); got != 8950 {
		t.Errorf("with the default route by the link of 9000 it is %d", got)
	}
}
