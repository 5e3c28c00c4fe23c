package hostile

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/skiff-sh/skiff/e2e/process"
)

// memory is what the server has.
const memory = 256 << 20

// plane is a server's process in its cgroup.
type plane struct {
	t      *testing.T
	group  cgroup
	dir    string
	server *process.Process
	config *rest.Config
	client *kubernetes.Clientset
}

// startPlane runs a server until the test ends. Its shell joins the cgroup before
// it becomes the server, so that all its memory counts.
func startPlane(t *testing.T) *plane {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("a memory cgroup needs root")
	}
	skiff, err := process.Skiff()
	if err != nil {
		t.Fatal(err)
	}
	ports, err := process.FreePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	p := &plane{t: t, group: newCgroup(t, memory), dir: t.TempDir()}
	command := exec.Command("/bin/sh", "-c", `echo $$ > "$0" && exec "$@"`, p.group.procs(), skiff, "server",
		"--disable-agent", "--data-dir", filepath.Join(p.dir, "data"), "--node-name", "server", "--node-ip", "192.0.2.1",
		"--bind-address", "127.0.0.1", "--https-listen-port", ports[0])
	if p.server, err = process.Start(command, filepath.Join(p.dir, "log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.stop)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := p.server.Ready(ctx, process.Anyone(), "https://127.0.0.1:"+ports[0]+"/readyz"); err != nil {
		t.Fatal(err)
	}
	p.connect()
	return p
}

// kubeconfig is the administrator's.
func (p *plane) kubeconfig() string { return filepath.Join(p.dir, "data", "kubeconfig.yaml") }

func (p *plane) connect() {
	p.t.Helper()
	var err error
	if p.config, err = clientcmd.BuildConfigFromFlags("", p.kubeconfig()); err != nil {
		p.t.Fatal(err)
	}
	p.config.QPS = -1
	if p.client, err = kubernetes.NewForConfig(p.config); err != nil {
		p.t.Fatal(err)
	}
}

// alive says why the server is not what it was, if it is not.
func (p *plane) alive() error {
	select {
	case <-p.server.Ended():
		return fmt.Errorf("the server ended: %w", p.server.Stop())
	default:
	}
	kills, err := p.group.kills()
	if err == nil && kills > 0 {
		err = fmt.Errorf("the kernel ended %d processes for want of memory", kills)
	}
	return err
}

// stop ends the server and looks for what tests must not overlook.
func (p *plane) stop() {
	if err := p.server.Stop(); err != nil {
		p.t.Error(err)
	}
	text, err := os.ReadFile(p.server.Log)
	if err != nil {
		p.t.Error(err)
	}
	if bytes.Contains(text, []byte("panic")) {
		p.t.Errorf("something panicked:\n%s", text)
	}
}
