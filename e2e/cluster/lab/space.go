package lab

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/skiff-sh/skiff/internal/netns"
)

// space is the namespaces of one machine. That of the network is pinned; those
// of a node's mounts and host name last as long as a process is inside, and the
// first that is does nothing else. (They could be pinned too, but Linux 6.18 may
// take the pin of a mount namespace for a loop.)
type space struct {
	net    string // the pin
	keeper string // file with the process of a node that keeps them
}

// forwarding makes a router of a machine.
const forwarding = `echo 1 >/proc/sys/net/ipv4/ip_forward; ip link set lo up`

// preparation gives a node its name and a resolver that knows nothing, and hides
// settings of a skiff that is installed on this machine.
const preparation = `
set -e
hostname "$1"
[ ! -e /etc/resolv.conf ] || mount --bind "$2" /etc/resolv.conf
[ ! -d /etc/skiff ] || mount -t tmpfs none /etc/skiff
ip link set lo up
echo ready
exec sleep infinity`

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
	if err := touch(s.net); err != nil {
		return err
	}
	cmd := exec.Command("unshare", "--net="+s.net, "--uts", "--mount", "--propagation=slave", "sh", "-c", preparation, "sh", name, c.resolver())
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // it outlives a terminal
	out, err := cmd.StdoutPipe()
	if err == nil {
		cmd.Stderr = cmd.Stdout
		err = cmd.Start()
	}
	if err != nil {
		return err
	}
	go func() { _ = cmd.Wait() }() // killed when the machine goes
	if said, _ := bufio.NewReader(out).ReadString('\n'); said != "ready\n" {
		return fmt.Errorf("%s: %s", cmd, said)
	}
	return os.WriteFile(s.keeper, []byte(strconv.Itoa(cmd.Process.Pid)), 0o644)
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
	if pid := s.inside(); pid != "" {
		enter = append(enter, "--mount=/proc/"+pid+"/ns/mnt", "--uts=/proc/"+pid+"/ns/uts")
	}
	return exec.CommandContext(ctx, "nsenter", append(append(enter, "--"), args...)...)
}

// inside returns a process that is in all of a node's namespaces: the keeper, or
// any where that has gone. A router has none.
func (s space) inside() string {
	pin, err := os.Stat(s.net)
	if err != nil {
		return ""
	}
	data, err := os.ReadFile(s.keeper)
	if err != nil {
		return ""
	}
	all, _ := filepath.Glob("/proc/[0-9]*") // errs only on a bad pattern
	for _, dir := range append([]string{"/proc/" + string(data)}, all...) {
		if has, err := os.Stat(dir + "/ns/net"); err == nil && os.SameFile(has, pin) {
			return filepath.Base(dir)
		}
	}
	return ""
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

// remove unpins the network. Nothing may run there any more, or it stays, without
// a name.
func (s space) remove() error {
	return netns.Remove(s.net)
}
