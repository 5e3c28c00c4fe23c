package userns

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/v2/pkg/sys"
	"golang.org/x/sys/unix"

	"github.com/skiff-sh/skiff/internal/netns"
)

// Pins are the paths where namespaces are kept.
type Pins struct{ User, Net, IPC, UTS string }

// Create makes a user namespace with the IDs from first on, and namespaces that
// belong to it, and pins them. Those that are pinned already stay.
func Create(p Pins, first uint32, hostname string) error {
	if netns.Exists(p.User) && netns.Exists(p.Net) && netns.Exists(p.IPC) && netns.Exists(p.UTS) {
		return nil
	}
	ids := fmt.Sprintf("0:%d:%d", first, Size)
	err := sys.UnshareAfterEnterUserns(ids, ids, unix.CLONE_NEWNET|unix.CLONE_NEWIPC|unix.CLONE_NEWUTS, func(pid int) error {
		for name, path := range map[string]string{"user": p.User, "net": p.Net, "ipc": p.IPC, "uts": p.UTS} {
			if err := pin(fmt.Sprintf("/proc/%d/ns/%s", pid, name), path); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("make user namespace: %w", err)
	}
	if err := netns.RaiseLoopback(p.Net); err != nil {
		return err
	}
	return netns.SetHostname(p.UTS, hostname)
}

// pin keeps a namespace, in the place of what was pinned there.
func pin(namespace, path string) error {
	if err := netns.Remove(path); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("pin namespace: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE, 0o444)
	if err != nil {
		return fmt.Errorf("pin namespace: %w", err)
	}
	f.Close()
	if err := unix.Mount(namespace, path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("pin namespace at %s: %w", path, err)
	}
	return nil
}
