package snapshot

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/skiff-sh/skiff/e2e/process"
	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/netns"
)

// patience is how long anything may take on a busy machine.
const patience = 60 * time.Second

// machine is a network namespace and a data directory.
type machine struct {
	t       *testing.T
	skiff   string
	name    string
	address string
	pin     string
	host    config.Host
	server  *exec.Cmd
	log     bytes.Buffer
}

func newMachine(t *testing.T, name, address string) *machine {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	skiff, err := process.Skiff()
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{
		t: t, skiff: skiff, name: name, address: address,
		pin: filepath.Join(t.TempDir(), "net"), host: config.NewHost(filepath.Join(t.TempDir(), "data")),
	}
	if err := netns.Create(m.pin); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.end(unix.SIGKILL)
		if t.Failed() {
			t.Logf("%s:\n%s", name, m.log.String())
		}
		if err := netns.Remove(m.pin); err != nil {
			t.Error(err)
		}
		if err := os.RemoveAll(m.host.RunDir); err != nil {
			t.Error(err)
		}
	})
	return m
}

// start runs the server until it answers, and returns a client of the
// administrator.
func (m *machine) start() *kubernetes.Clientset {
	m.t.Helper()
	m.server = exec.Command(m.skiff, "server", "--disable-agent", "--data-dir", m.host.DataDir,
		"--node-name", m.name, "--node-ip", m.address)
	m.server.Stdout, m.server.Stderr = &m.log, &m.log
	m.server.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := netns.Do(m.pin, m.server.Start); err != nil {
		m.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(m.t.Context(), patience)
	defer cancel()
	for {
		if c, err := clientcmd.BuildConfigFromFlags("", m.kubeconfig()); err == nil {
			client := m.client(c)
			if _, err := client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx); err == nil {
				return client
			}
		}
		select {
		case <-ctx.Done():
			m.t.Fatalf("the server does not answer: %s", m.log.String())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (m *machine) kubeconfig() string { return filepath.Join(m.host.DataDir, "kubeconfig.yaml") }

// client returns a client that reaches the machine's server under its address.
func (m *machine) client(c *rest.Config) *kubernetes.Clientset {
	m.t.Helper()
	c = rest.CopyConfig(c)
	c.Host, c.QPS = "https://"+m.address+":6443", -1
	c.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return netns.DialIn(ctx, m.pin, "tcp", "127.0.0.1:6443")
	}
	client, err := kubernetes.NewForConfig(c)
	if err != nil {
		m.t.Fatal(err)
	}
	return client
}

// end ends the server, if it runs.
func (m *machine) end(signal os.Signal) {
	if m.server == nil {
		return
	}
	_ = m.server.Process.Signal(signal)
	_ = m.server.Wait() // that it was killed is no news
	m.server = nil
}

// run runs a skiff command on the machine.
func (m *machine) run(in io.Reader, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(m.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, m.skiff, args...)
	cmd.Env = append(os.Environ(), "SKIFF_DATA_DIR="+m.host.DataDir, "SKIFF_NODE_NAME="+m.name,
		"KUBECONFIG="+m.kubeconfig(), "HOME="+filepath.Dir(m.host.DataDir))
	var out, problems bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, &out, &problems
	err := netns.Do(m.pin, cmd.Start)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		err = fmt.Errorf("skiff %s: %w: %s", strings.Join(args, " "), err, problems.String())
	}
	return out.String(), err
}

// must runs a command that has to succeed.
func (m *machine) must(args ...string) string {
	m.t.Helper()
	out, err := m.run(nil, args...)
	if err != nil {
		m.t.Fatal(err)
	}
	return out
}
