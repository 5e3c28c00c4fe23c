package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/skiff-sh/skiff/internal/netns"
)

// space is the namespaces of one machine, by their pins. Routers have only that
// of the network.
type space struct{ net, mnt, uts string }

// forwarding makes a router of a machine.
const forwarding = `echo 1 >/proc/sys/net/ipv4/ip_forward; ip link set lo up`

// preparation gives a node its name and a resolver that knows nothing, and hides
// settings of a skiff that is installed on this machine.
const preparation = `
set -e
hostname "$1"
[ ! -e /etc/resolv.conf ] || mount --bind "$2" /etc/resolv.conf
[ ! -d /etc/skiff ] || mount -t tmpfs none /etc/skiff
ip link set lo up`

// make makes a router's.
func (s space) make(links string) error {
	if err := touch(s.net); err != nil {
		return err
	}
	if err := run(exec.Command("unshare", "--net="+s.net, "sh", "-c", forwarding), ""); err != nil {
		return err
	}
	return s.ip(links)
}

// makeNode makes a node's.
func (s space) makeNode(name string, c Config) error {
	for _, pin := range []string{s.net, s.mnt, s.uts} {
		if err := touch(pin); err != nil {
			return err
		}
	}
	return run(exec.Command("unshare", "--net="+s.net, "--uts="+s.uts, "--mount="+s.mnt, "--propagation=slave",
		"sh", "-c", preparation, "sh", name, c.resolver()), "")
}

func touch(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE, 0o444)
	if err != nil {
		return fmt.Errorf("pin namespace: %w", err)
	}
	return f.Close()
}

func (s space) exists() bool { return netns.Exists(s.net) }

// command is one that runs inside; it begins in the root directory.
func (s space) command(ctx context.Context, args ...string) *exec.Cmd {
	enter := []string{"--net=" + s.net}
	if netns.Exists(s.mnt) {
		enter = append(enter, "--mount="+s.mnt, "--uts="+s.uts)
	}
	return exec.CommandContext(ctx, "nsenter", append(append(enter, "--"), args...)...)
}

// ip gives commands to ip, a line each.
func (s space) ip(lines string) error {
	return run(s.command(context.Background(), "ip", "-batch", "-"), lines)
}

func (s space) nft(rules string) error {
	return run(s.command(context.Background(), "nft", "-f", "-"), rules)
}

func run(cmd *exec.Cmd, in string) error {
	cmd.Stdin = strings.NewReader(in)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", cmd, err, bytes.TrimSpace(out))
	}
	return nil
}

// end kills every process that runs in the network namespace.
func (s space) end() error {
	want, err := os.Stat(s.net)
	if err != nil {
		return err
	}
	var errs []error
	// Again, until none is left that could have made another.
	for found := true; found; {
		found = false
		all, err := filepath.Glob("/proc/[0-9]*")
		if err != nil {
			return err
		}
		for _, dir := range all {
			has, err := os.Stat(dir + "/ns/net")
			if err != nil || !os.SameFile(has, want) {
				continue
			}
			killed, err := kill(dir, want)
			found = found || killed
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// kill ends the process of a directory of /proc if it is still in the namespace,
// and waits for its end.
func kill(dir string, namespace os.FileInfo) (bool, error) {
	var pid int
	if _, err := fmt.Sscanf(dir, "/proc/%d", &pid); err != nil || pid == os.Getpid() {
		return false, err
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return false, nil // it has ended
	}
	defer unix.Close(fd)
	// The number may be another process's by now.
	if has, err := os.Stat(dir + "/ns/net"); err != nil || !os.SameFile(has, namespace) {
		return false, nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil {
		return false, nil
	}
	_, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10_000)
	return true, err
}

// remove unpins them. Nothing may run in them any more, or they stay, without a
// name.
func (s space) remove() error {
	return errors.Join(netns.Remove(s.mnt), netns.Remove(s.uts), netns.Remove(s.net))
}
