package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moby/sys/mountinfo"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

func TestKillallLeavesOnlyData(t *testing.T) {
	t.Parallel()
	m := ownMachine(t)
	network, err := m.networkState()
	if err != nil {
		t.Fatal(err)
	}
	c := m.open(t)
	p := pod("web", "")
	mounted(p, "memory", corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}})
	uid := c.startPod(p).UID
	c.startPod(pod("stubborn", "trap '' TERM; while true; do sleep 0.1; done"))
	c.kubectl("expose", "pod", "web", "--port=80", "--target-port=8080", "--type=NodePort")
	url := "http://" + c.service("web").Spec.ClusterIP
	c.awaitPage(url)

	killall := func() {
		t.Helper()
		if out, err := m.run(nil, skiff, "killall", "--data-dir", m.host.DataDir); err != nil || out != "" {
			t.Fatalf("killall: %v: %s", err, out)
		}
		if err := m.leftovers(); err != nil {
			t.Errorf("killall left %v", err)
		}
		after, err := m.networkState()
		if err != nil || !slices.Equal(after, network) {
			t.Errorf("network before: %v\nafter: %v %v", network, after, err)
		}
	}
	killall() // with the server running
	<-m.ended
	killall() // nothing is there

	t.Log("the data are kept, and the Pods come back")
	if err := m.start(); err != nil {
		t.Fatal(err)
	}
	if p := c.awaitPod("web", podReady); p.UID != uid {
		t.Errorf("another Pod came back: %s", p.UID)
	}
	c.awaitPod("stubborn", podReady)
	c.mustContain(c.awaitPage(url), "web")
	c.quiesce()
	if _, err := m.signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	killall() // with the server dead and Pods running
}

// leftovers says what the data directory's node still has on the host.
func (m *machine) leftovers() error {
	var errs []error
	points, err := cgroupMounts()
	errs = append(errs, err)
	for _, point := range points {
		if dir := filepath.Join(point, m.host.CgroupRoot); exists(dir) {
			errs = append(errs, fmt.Errorf("cgroup %s", dir))
		}
	}
	mounts, err := mountinfo.GetMounts(nil)
	errs = append(errs, err)
	for _, mount := range mounts {
		if strings.HasPrefix(mount.Mountpoint, m.host.DataDir) || strings.HasPrefix(mount.Mountpoint, m.host.RunDir) {
			errs = append(errs, fmt.Errorf("mount %s", mount.Mountpoint))
		}
	}
	if exists(m.host.RunDir) {
		errs = append(errs, fmt.Errorf("directory %s", m.host.RunDir))
	}
	err = eachProcess(func(pid int) {
		exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if strings.HasPrefix(exe, m.host.DataDir) || strings.Contains(string(line), m.host.RunDir) || strings.Contains(string(line), m.host.DataDir) {
			errs = append(errs, fmt.Errorf("process %d: %s", pid, strings.ReplaceAll(string(line), "\x00", " ")))
		}
	})
	errs = append(errs, err)
	running, err := m.running()
	if len(running) > 0 {
		errs = append(errs, fmt.Errorf("containers %v", running))
	}
	return errors.Join(append(errs, err)...)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// networkState lists links, addresses, routes and firewall tables.
func (m *machine) networkState() ([]string, error) {
	var state []string
	err := m.inside(func() error {
		links, err := netlink.LinkList()
		if err != nil {
			return err
		}
		for _, l := range links {
			state = append(state, "link "+l.Attrs().Name)
		}
		addresses, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
		if err != nil {
			return err
		}
		for _, a := range addresses {
			// Loopback comes up with the first server and stays.
			if !a.IP.IsLoopback() {
				state = append(state, "address "+a.String())
			}
		}
		routes, err := netlink.RouteListFiltered(unix.AF_INET, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
		if err != nil {
			return err
		}
		for _, r := range routes {
			if r.Dst == nil || !r.Dst.IP.IsLoopback() {
				state = append(state, "route "+r.String())
			}
		}
		rules, err := netlink.RuleList(unix.AF_INET)
		for _, r := range rules {
			state = append(state, r.String())
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	tables, err := m.run(nil, "nft", "list", "tables")
	return append(state, "tables "+tables), err
}
