package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/skiff-sh/skiff/e2e/await"
	"github.com/skiff-sh/skiff/e2e/box"
	"github.com/skiff-sh/skiff/e2e/process"
	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/netns"
)

// patience is how long anything that a test waits for may take.
const patience = 60 * time.Second

// machine is a network namespace and a data directory.
type machine struct {
	pin  string // of the network namespace; "" is the tests' own
	dir  string
	host config.Host
	args []string // of skiff server, further ones
	env  []string // of skiff server; nil: the tests' own

	client kubernetes.Interface
	config *rest.Config

	clusters atomic.Int64 // tests that used it

	process *os.Process // of the server last started
	ended   chan error  // gets its end
}

// newMachine returns a machine whose server does not run yet.
func newMachine(name string, args ...string) (*machine, error) {
	dir, err := os.MkdirTemp(filepath.Join(base, "machines"), name+"-")
	if err != nil {
		return nil, err
	}
	m := &machine{dir: dir, host: config.NewHost(filepath.Join(dir, "data")), args: args}
	return m, os.Mkdir(m.host.DataDir, 0o755)
}

// ownMachine returns a machine for one test alone, which is gone after it.
func ownMachine(t *testing.T, args ...string) *machine {
	t.Helper()
	m, err := newMachine(t.Name(), args...)
	if err == nil {
		m.pin = filepath.Join(base, "net", filepath.Base(m.dir))
		err = netns.Create(m.pin)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			_ = process.ExamineLog(m.log(), true) // a panic is found at the end of the run
		}
		if out, err := m.run(nil, skiff, "killall", "--data-dir", m.host.DataDir); err != nil {
			t.Errorf("killall: %v: %s", err, out)
		}
		if err := netns.Remove(m.pin); err != nil {
			t.Error(err)
		}
	})
	return m
}

// sharedMachine is the one that most tests use, with the box image.
var sharedMachine = sync.OnceValues(func() (*machine, error) {
	m, err := newMachine("shared")
	if err != nil {
		return nil, err
	}
	if err := m.start(); err != nil {
		return nil, err
	}
	return m, m.importBox()
})

func (m *machine) log() string { return filepath.Join(m.dir, "server.log") }

// start starts the server and returns when its node is Ready.
func (m *machine) start() error {
	if err := m.launch(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return m.ready(ctx)
}

// launch starts the server and returns at once.
func (m *machine) launch() error {
	log, err := os.OpenFile(m.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(skiff, append([]string{"server", "--data-dir", m.host.DataDir}, m.args...)...)
	cmd.Stdout, cmd.Stderr, cmd.Env = log, log, m.env
	if err := m.inside(cmd.Start); err != nil {
		return err
	}
	ended := make(chan error, 1)
	m.process, m.ended = cmd.Process, ended
	go func() { ended <- cmd.Wait() }()
	return nil
}

// ready waits until the server answers and its node has said, in this run of
// the server, that it is Ready.
func (m *machine) ready(ctx context.Context) error {
	err := await.Try(ctx, func() error {
		select {
		case err := <-m.ended:
			m.ended <- err
			return fmt.Errorf("%w: server ended: %w: see %s", await.ErrGiveUp, err, m.log())
		default:
		}
		if err := m.connect(); err != nil {
			return err
		}
		_, err := m.client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		return err
	})
	if err != nil {
		return fmt.Errorf("wait for /readyz: %w", err)
	}
	_, err = await.Object(ctx, m.client.CoreV1().Nodes(), nil, "", func(n *corev1.Node) bool {
		return nodeReady(n) && m.nodeAnswers(ctx)
	})
	return err
}

// nodeAnswers says whether the node's own API is up.
func (m *machine) nodeAnswers(ctx context.Context) bool {
	return await.Try(ctx, func() error {
		conn, err := m.dial(ctx, "tcp", "127.0.0.1:10250")
		if err == nil {
			conn.Close()
		}
		return err
	}) == nil
}

func nodeReady(n *corev1.Node) bool {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// connect makes the clients, once the server has written its kubeconfig.
func (m *machine) connect() error {
	if m.client != nil {
		return nil
	}
	c, err := clientcmd.BuildConfigFromFlags("", m.kubeconfig())
	if err != nil {
		return err
	}
	c.QPS, c.Burst = 1000, 1000
	c.Dial = m.dial
	client, err := kubernetes.NewForConfig(c)
	if err != nil {
		return err
	}
	m.config, m.client = c, client
	return nil
}

func (m *machine) kubeconfig() string { return filepath.Join(m.host.DataDir, "kubeconfig.yaml") }

// dial connects from inside the machine.
func (m *machine) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if m.pin == "" {
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	return netns.DialIn(ctx, m.pin, network, address)
}

// inside runs fn in the machine's network namespace.
func (m *machine) inside(fn func() error) error {
	if m.pin == "" {
		return fn()
	}
	return netns.Do(m.pin, fn)
}

// command is one that runs in the machine, as its kubectl user.
func (m *machine) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "SKIFF_DATA_DIR="+m.host.DataDir, "KUBECONFIG="+m.kubeconfig(), "HOME="+m.dir)
	return cmd
}

// run runs a command in the machine and returns what it wrote, errors too.
func (m *machine) run(in io.Reader, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return m.finishCommand(m.command(ctx, name, args...), in)
}

// finishCommand runs a command inside the machine.
func (m *machine) finishCommand(cmd *exec.Cmd, in io.Reader) (string, error) {
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, &out, &out
	err := m.inside(cmd.Start)
	if err == nil {
		err = cmd.Wait()
	}
	return out.String(), err
}

// importBox gives the machine the tests' image.
func (m *machine) importBox() error {
	archive, err := os.Open(boxArchive())
	if err != nil {
		return err
	}
	defer archive.Close()
	out, err := m.run(archive, skiff, "images", "import", "--data-dir", m.host.DataDir, "-")
	if err != nil {
		return fmt.Errorf("import %s: %w: %s", box.Image, err, out)
	}
	return nil
}

// signal ends the server and returns how long that took.
func (m *machine) signal(s os.Signal) (time.Duration, error) {
	begin := time.Now()
	if err := m.process.Signal(s); err != nil {
		return 0, err
	}
	select {
	case err := <-m.ended:
		m.ended <- err
		if exit := new(exec.ExitError); s == unix.SIGKILL && errors.As(err, &exit) {
			err = nil
		}
		return time.Since(begin), err
	case <-time.After(patience):
		return time.Since(begin), fmt.Errorf("server does not end after %v", s)
	}
}

// httpClient connects from inside the machine and keeps no connection, so that
// every request is balanced anew.
func (m *machine) httpClient() *http.Client {
	return &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DialContext: m.dial, DisableKeepAlives: true}}
}
