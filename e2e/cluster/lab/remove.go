package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"

	"github.com/skiff-sh/skiff/internal/config"
)

// Remove ends everything that runs in the lab and removes all of it, whatever
// state it is in and whoever made it. What is not there is no error.
func Remove(c Config) error {
	nodes, err := filepath.Glob(filepath.Join(c.nodes(), "*"))
	errs := []error{err}
	for _, dir := range nodes {
		if err := c.removeNode(filepath.Base(dir)); err != nil {
			errs = append(errs, fmt.Errorf("remove %s: %w", filepath.Base(dir), err))
		}
	}
	for _, name := range []string{gate, router} {
		errs = append(errs, c.space(name).remove())
	}
	if err := errors.Join(errs...); err != nil {
		return err // what is left is needed to try again
	}
	for _, path := range []string{c.nodes(), c.spaces(), c.resolver()} {
		errs = append(errs, os.RemoveAll(path))
	}
	return errors.Join(errs...)
}

// removeNode lets skiff undo what it did, inside, and then takes the machine away.
func (c Config) removeNode(name string) error {
	s := c.space(name)
	if !s.exists() {
		return s.remove()
	}
	n := &Node{Name: name, Dir: c.dir(name), Host: config.NewHost(c.data(name)), lab: &Lab{Config: c}, space: s}
	cmd := n.Skiff(context.Background(), "killall", "--data-dir", n.Host.DataDir)
	errs := []error{run(cmd, ""), s.end()}
	return errors.Join(append(errs, s.remove())...)
}

// Leftovers names what a lab's nodes of those names have left on the machine:
// after Remove there is nothing.
func Leftovers(c Config, names ...string) ([]string, error) {
	var left []string
	for _, name := range names {
		host := config.NewHost(c.data(name))
		places := []string{host.RunDir, c.dir(name), c.space(name).net}
		for _, pattern := range []string{"/sys/fs/cgroup/" + host.CgroupRoot, "/sys/fs/cgroup/*/" + host.CgroupRoot} {
			found, err := filepath.Glob(pattern)
			if err != nil {
				return nil, err
			}
			places = append(places, found...)
		}
		for _, path := range places {
			if _, err := os.Lstat(path); err == nil {
				left = append(left, path)
			}
		}
	}
	mounts, err := mountinfo.GetMounts(func(m *mountinfo.Info) (bool, bool) {
		return !strings.HasPrefix(m.Mountpoint, c.Dir) && !strings.HasPrefix(m.Mountpoint, c.Pins), false
	})
	for _, m := range mounts {
		left = append(left, "mount "+m.Mountpoint)
	}
	running, processErr := processes(c)
	return slices.Concat(left, running), errors.Join(err, processErr)
}

// processes are those that run a program below the lab's directory or have one
// of its nodes in their command line.
func processes(c Config) ([]string, error) {
	all, err := filepath.Glob("/proc/[0-9]*")
	var left []string
	for _, dir := range all {
		exe, _ := os.Readlink(dir + "/exe") // gone, or a thread of the kernel's
		line, _ := os.ReadFile(dir + "/cmdline")
		if strings.HasPrefix(exe, c.Dir) || strings.Contains(string(line), c.Dir+"/nodes") {
			left = append(left, fmt.Sprintf("process %s %s", filepath.Base(dir), strings.ReplaceAll(string(line), "\x00", " ")))
		}
	}
	return left, err
}
