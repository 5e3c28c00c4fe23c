package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/netns"
)

// ending is how long a skiff may take to end.
const ending = 30 * time.Second

// Node is a machine of the lab. It is not safe for concurrent use, its commands
// are.
type Node struct {
	Name    string
	Dir     string // its data directory and its log are there
	Host    config.Host
	Address netip.Addr

	lab    *Lab
	space  space
	subnet subnet

	process *os.Process   // of the skiff last started
	ended   chan struct{} // closed at its end
	outcome *error        // what came of it, once it has ended
}

// Log is where what its skiffs write is kept.
func (n *Node) Log() string { return filepath.Join(n.Dir, "log") }

// Kubeconfig is what a server writes.
func (n *Node) Kubeconfig() string { return filepath.Join(n.Host.DataDir, "kubeconfig.yaml") }

// Pin is where its network namespace is pinned.
func (n *Node) Pin() string { return n.space.net }

// Command is one that runs on the node, with its settings and no others.
func (n *Node) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := n.space.command(ctx, append([]string{name}, args...)...)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + n.Dir,
		"SKIFF_DATA_DIR=" + n.Host.DataDir, "KUBECONFIG=" + n.Kubeconfig(),
	}
	return cmd
}

// Skiff is a skiff command that runs on the node.
func (n *Node) Skiff(ctx context.Context, args ...string) *exec.Cmd {
	return n.Command(ctx, n.lab.Skiff, args...)
}

// Start starts a long-running skiff command, such as server, and returns at once.
func (n *Node) Start(args ...string) error {
	log, err := os.OpenFile(n.Log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := n.Skiff(context.Background(), args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // it outlives a terminal
	if err := cmd.Start(); err != nil {
		return err
	}
	ended, outcome := make(chan struct{}), new(error)
	n.process, n.ended, n.outcome = cmd.Process, ended, outcome
	go func() {
		*outcome = cmd.Wait()
		close(ended)
	}()
	return nil
}

// Ended says whether what Start started has ended, and how.
func (n *Node) Ended() (bool, error) {
	select {
	case <-n.ended:
		return true, *n.outcome
	default:
		return n.ended == nil, nil
	}
}

// While returns a context that ends when what Start started does, too.
func (n *Node) While(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-n.ended:
			cancel(fmt.Errorf("%s: skiff has ended: see %s", n.Name, n.Log()))
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

// Stop ends what Start started with a signal. Being killed by SIGKILL is no error.
func (n *Node) Stop(s syscall.Signal) error {
	if done, err := n.Ended(); done {
		return err
	}
	if err := n.process.Signal(s); err != nil {
		return err
	}
	select {
	case <-n.ended:
		if exit := new(exec.ExitError); s == unix.SIGKILL && errors.As(*n.outcome, &exit) {
			return nil
		}
		return *n.outcome
	case <-time.After(ending):
		return fmt.Errorf("%s: skiff does not end after %v", n.Name, s)
	}
}

// Dial connects from the node.
func (n *Node) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return netns.DialIn(ctx, n.space.net, network, address)
}

// Do runs a function in the node's network namespace.
func (n *Node) Do(fn func() error) error { return netns.Do(n.space.net, fn) }

// Client is the administrator's, on a server that has written its kubeconfig.
func (n *Node) Client() (kubernetes.Interface, *rest.Config, error) {
	c, err := clientcmd.BuildConfigFromFlags("", n.Kubeconfig())
	if err != nil {
		return nil, nil, err
	}
	c.QPS, c.Burst = 1000, 1000
	c.Dial = n.Dial
	client, err := kubernetes.NewForConfig(c)
	return client, c, err
}

// Cut takes the node off its link without anyone being told: what it sends is
// lost, and its own end of the link stays up.
func (n *Node) Cut() error {
	return n.lab.space(n.subnet.owner).ip("link set " + n.Name + " nomaster\n")
}

// Mend undoes Cut.
func (n *Node) Mend() error {
	return n.lab.space(n.subnet.owner).ip(fmt.Sprintf("link set %s master %s\n", n.Name, n.subnet.bridge))
}

// Narrow has the node's link carry packets of at most so many bytes.
func (n *Node) Narrow(mtu int) error {
	return errors.Join(
		n.lab.space(n.subnet.owner).ip(fmt.Sprintf("link set %s mtu %d\n", n.Name, mtu)),
		n.space.ip(fmt.Sprintf("link set eth0 mtu %d\n", mtu)),
	)
}

// Move gives the node another address on its subnet, in place of the one it has.
func (n *Node) Move(to netip.Addr) error {
	if !n.subnet.network.Contains(to) {
		return fmt.Errorf("move %s to %s: expected an address of %s", n.Name, to, n.subnet.network)
	}
	n.Address = to
	return n.setAddress()
}

func (n *Node) setAddress() error {
	return n.space.ip(fmt.Sprintf(`
addr flush dev eth0
addr add %s/%d dev eth0
link set eth0 up
route add default via %s
`, n.Address, n.subnet.network.Bits(), n.subnet.gateway))
}
