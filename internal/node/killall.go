package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/skiff-sh/skiff/embed"
	"github.com/skiff-sh/skiff/internal/agent/cgroup"
	"github.com/skiff-sh/skiff/internal/agent/containerd"
	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/dns"
	"github.com/skiff-sh/skiff/internal/network/mesh"
	"github.com/skiff-sh/skiff/internal/network/pod"
	"github.com/skiff-sh/skiff/internal/network/service"
	"github.com/skiff-sh/skiff/internal/store/bolt"
)

// patience is how long a skiff may take to end after SIGTERM.
const patience = 10 * time.Second

// KillAll ends the skiff that runs on the host's data directory and all of its
// Pods, and undoes what the node did to the machine. The data stay. What is not
// there is no error, and one step's failure does not keep the others from being
// done.
func KillAll(ctx context.Context, host config.Host) error {
	for _, lock := range []string{host.StorePath(), agentLock(host)} {
		if err := endProcess(lock); err != nil {
			return fmt.Errorf("end skiff: %w", err)
		}
	}
	return undo(ctx, host, "")
}

// undo ends the Pods of a node that has ended and takes back what it did to the
// machine. The containers are those of the containerd that answers at endpoint,
// of our own if that is "".
func undo(ctx context.Context, host config.Host, endpoint string) error {
	var errs []error
	for _, step := range []struct {
		name string
		do   func(context.Context, config.Host) error
	}{
		{"end containers", func(ctx context.Context, h config.Host) error { return endContainers(ctx, h, endpoint) }},
		{"unmount", unmountAll},
		{"remove paths to other nodes", func(_ context.Context, h config.Host) error { return mesh.Cleanup(h) }},
		{"remove links and routes", func(_ context.Context, h config.Host) error { return pod.Cleanup(h) }},
		{"remove firewall table", func(_ context.Context, h config.Host) error { return service.Cleanup(h) }},
		{"remove DNS address", func(_ context.Context, h config.Host) error { return dns.Cleanup(h) }},
		{"remove node address", func(context.Context, config.Host) error { return removeLonely() }},
		{"remove control groups", removeCgroups},
		{"remove run directory", func(_ context.Context, h config.Host) error { return os.RemoveAll(h.RunDir) }},
	} {
		if err := step.do(ctx, host); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", step.name, err))
		}
	}
	return errors.Join(errs...)
}

// endProcess ends the skiff that holds a lock, and waits for its end.
func endProcess(lock string) error {
	pid, err := bolt.Holder(lock)
	if err != nil || pid == 0 {
		return err
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("watch process %d: %w", pid, err)
	}
	defer unix.Close(fd)
	for _, signal := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		if err := unix.PidfdSendSignal(fd, signal, nil, 0); err != nil {
			return ended(err)
		}
		if done, err := waitEnd(fd); done || err != nil {
			return err
		}
	}
	return fmt.Errorf("process %d does not end", pid)
}

func ended(err error) error {
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

func waitEnd(fd int) (bool, error) {
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for deadline := time.Now().Add(patience); ; {
		n, err := unix.Poll(poll, int(max(0, time.Until(deadline).Milliseconds())))
		if !errors.Is(err, unix.EINTR) {
			return n > 0, err
		}
	}
}

// endContainers asks the runtime to, which knows every container and shim.
func endContainers(ctx context.Context, host config.Host, endpoint string) error {
	if _, err := os.Stat(filepath.Join(host.DataDir, "agent", "containerd")); errors.Is(err, os.ErrNotExist) && endpoint == "" {
		return nil
	}
	helpers := filepath.Join(host.DataDir, "agent", "bin")
	runc, err := embed.Unpack(helpers, embed.Runc)
	if err != nil {
		return err
	}
	shim, err := embed.Unpack(helpers, embed.Shim)
	if err != nil {
		return err
	}
	runtime, err := containerd.Open(ctx, containerd.Config{Host: host, Address: endpoint, Runc: runc, Shim: shim, Log: zap.NewNop()})
	if err != nil {
		return err
	}
	return errors.Join(runtime.RemoveAll(ctx), runtime.Close())
}

// unmountAll unmounts what the node has mounted for its Pods, deepest first. A disk that
// somebody gave one of its directories stays.
func unmountAll(_ context.Context, host config.Host) error {
	var below []string
	for _, dir := range []string{filepath.Join(host.DataDir, "agent", "pods"), host.RunDir} {
		mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
		if err != nil {
			return err
		}
		for _, m := range mounts {
			if m.Mountpoint != dir {
				below = append(below, m.Mountpoint)
			}
		}
	}
	slices.SortFunc(below, func(a, b string) int { return strings.Count(b, "/") - strings.Count(a, "/") })
	var errs []error
	for _, path := range below {
		err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, fmt.Errorf("unmount %s: %w", path, err))
		}
	}
	return errors.Join(errs...)
}

func removeCgroups(_ context.Context, host config.Host) error {
	tree, err := cgroup.Open(host.CgroupRoot)
	if err != nil {
		return err
	}
	return tree.Destroy()
}
