package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// inventory is what of one data directory is on the host, each list sorted.
type inventory struct {
	Shims      []string // the UIDs of their Pods, from their working directories or arguments
	Containers []string // IDs with processes in their cgroups
	Pins       []string // UIDs that have network namespaces
	Links      []string // names of the Pods' links on the machine
	PodMounts  []string // UIDs below whose directories something is mounted
	Roots      []string // container IDs whose root file systems are mounted
	Cgroups    []string // UIDs with a cgroup, in any hierarchy
	Dirs       []string // UIDs with a directory
	Other      []string // mounts, in places of neither kind
}

// task is a container's first process.
type task struct {
	PID   int
	Start string // clock ticks after boot: a PID may be used again
}

// take looks at the host.
func (m *machine) take() (inventory, error) {
	var v inventory
	var err error
	var errs []error
	v.Shims, err = m.shims()
	errs = append(errs, err)
	running, err := m.running()
	errs = append(errs, err)
	for id := range running {
		v.Containers = append(v.Containers, id)
	}
	slices.Sort(v.Containers)
	v.Pins, err = names(filepath.Join(m.host.RunDir, "netns"))
	errs = append(errs, err)
	v.Dirs, err = names(filepath.Join(m.host.DataDir, "agent", "pods"))
	errs = append(errs, err)
	v.Cgroups, err = m.podCgroups()
	errs = append(errs, err)
	errs = append(errs, m.mounts(&v), m.links(&v))
	return v, errors.Join(errs...)
}

func names(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all, err
}

// spareShim is the directory of the shim that waits for the next Pod.
const spareShim = ".spare"

// shims finds the shims by their program, which lies in the data directory.
func (m *machine) shims() ([]string, error) {
	var all []string
	err := eachProcess(func(pid int) {
		exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)) // gone, or the kernel's
		if strings.HasPrefix(exe, m.host.DataDir+"/") && filepath.Base(exe) == "skiff-shim" {
			cwd, _ := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
			all = append(all, filepath.Base(cwd))
		}
	})
	slices.Sort(all)
	if len(all) > 0 && all[0] == spareShim {
		all = all[1:] // one may wait for the next Pod
	}
	return all, err
}

func eachProcess(fn func(pid int)) error {
	entries, err := os.ReadDir("/proc")
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			fn(pid)
		}
	}
	return err
}

// running finds the containers by their processes' cgroups, and says which is
// each one's first process.
func (m *machine) running() (map[string]task, error) {
	all := map[string]task{}
	err := eachProcess(func(pid int) {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid)) // may be gone
		_, path, found := strings.Cut(string(text), "/"+m.host.CgroupRoot+"/")
		if !found {
			return
		}
		path, _, _ = strings.Cut(path, "\n")
		id := filepath.Base(path)
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return
		}
		_, rest, _ := strings.Cut(string(stat), ") ")
		fields := strings.Fields(rest)
		if fields[0] == "Z" || fields[0] == "X" {
			return
		}
		if known, ok := all[id]; !ok || pid < known.PID {
			all[id] = task{PID: pid, Start: fields[19]}
		}
	})
	return all, err
}

// cgroupMounts are the mount points of all hierarchies.
func cgroupMounts() ([]string, error) {
	mounts, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup", "cgroup2"))
	var points []string
	for _, mount := range mounts {
		points = append(points, mount.Mountpoint)
	}
	return points, err
}

func (m *machine) podCgroups() ([]string, error) {
	points, err := cgroupMounts()
	var uids []string
	for _, point := range points {
		for _, pattern := range []string{"pod*", "*/pod*"} {
			dirs, _ := filepath.Glob(filepath.Join(point, m.host.CgroupRoot, pattern))
			for _, dir := range dirs {
				uids = append(uids, strings.TrimPrefix(filepath.Base(dir), "pod"))
			}
		}
	}
	slices.Sort(uids)
	return slices.Compact(uids), err
}

func (m *machine) mounts(v *inventory) error {
	mounts, err := mountinfo.GetMounts(nil)
	for _, mount := range mounts {
		path := mount.Mountpoint
		if rest, ok := strings.CutPrefix(path, filepath.Join(m.host.DataDir, "agent", "pods")+"/"); ok {
			uid, _, _ := strings.Cut(rest, "/")
			v.PodMounts = append(v.PodMounts, uid)
			continue
		}
		if rest, ok := strings.CutPrefix(path, m.host.RunDir+"/"); ok {
			switch parts := strings.Split(rest, "/"); {
			case parts[0] == "netns" || parts[0] == "ipcns" || parts[0] == "utsns":
			case len(parts) == 5 && parts[1] == "pods" && parts[4] == "rootfs":
				v.Roots = append(v.Roots, parts[3])
			default:
				v.Other = append(v.Other, path)
			}
		}
	}
	slices.Sort(v.PodMounts)
	v.PodMounts = slices.Compact(v.PodMounts)
	slices.Sort(v.Roots)
	return err
}

func (m *machine) links(v *inventory) error {
	return m.inside(func() error {
		all, err := netlink.LinkList()
		for _, link := range all {
			if strings.HasPrefix(link.Attrs().Name, m.host.LinkPrefix) {
				v.Links = append(v.Links, link.Attrs().Name)
			}
		}
		return err
	})
}

// said is what should be there by what the API says.
type said struct {
	pods       []string          // UIDs
	containers map[string]string // those that run: ID to Pod's and container's name
	made       []string          // IDs of these and of init containers that have ended
}

// said lists it; a Pod that is going away is an error.
func (m *machine) said(ctx context.Context) (said, error) {
	list, err := m.client.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
	s := said{containers: map[string]string{}}
	if err != nil {
		return s, err
	}
	for _, p := range list.Items {
		if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
			continue
		}
		if p.DeletionTimestamp != nil {
			return s, fmt.Errorf("%s/%s is being deleted", p.Namespace, p.Name)
		}
		s.pods = append(s.pods, string(p.UID))
		for _, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
			id := strings.TrimPrefix(c.ContainerID, "containerd://")
			if c.State.Running != nil {
				s.containers[id] = p.Name + "/" + c.Name
			}
			s.made = append(s.made, id)
		}
	}
	slices.Sort(s.pods)
	slices.Sort(s.made)
	return s, nil
}

// compare says how what is there differs from what is said to be, "" if not
// at all. It is for times when no Pod changes and every Pod is running.
func (v inventory) compare(s said) error {
	var ids []string
	for id := range s.containers {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	var errs []error
	check := func(what string, got, want []string) {
		if !slices.Equal(got, want) {
			errs = append(errs, fmt.Errorf("%s: there are %d %v, the API says %d %v", what, len(got), got, len(want), want))
		}
	}
	check("containers with processes", v.Containers, ids)
	check("mounted root file systems", v.Roots, s.made)
	check("pinned namespaces", v.Pins, s.pods)
	check("Pods with mounts", v.PodMounts, s.pods)
	check("Pods with cgroups", v.Cgroups, s.pods)
	check("Pods with directories", v.Dirs, s.pods)
	check("mounts in odd places", v.Other, nil)
	if len(v.Shims) != len(s.pods) {
		errs = append(errs, fmt.Errorf("%d shims of %d Pods: %v", len(v.Shims), len(s.pods), v.Shims))
	}
	if len(v.Links) != len(s.pods) {
		errs = append(errs, fmt.Errorf("%d links of %d Pods: %v", len(v.Links), len(s.pods), v.Links))
	}
	return errors.Join(errs...)
}
