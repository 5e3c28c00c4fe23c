package hostile

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// memory is what the server has.
const memory = 256 << 20

// plane is a server's process in its cgroup.
type plane struct {
	t      *testing.T
	group  cgroup
	dir    string
	log    string
	cmd    *exec.Cmd
	ended  chan struct{} // closed when the process has
	config *rest.Config
	client *kubernetes.Clientset
}

// executable is the skiff that is tested.
func executable(t *testing.T) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("a memory cgroup needs root")
	}
	path := os.Getenv("SKIFF_BIN")
	if path == "" {
		path = "../../bin/skiff"
	}
	path, err := filepath.Abs(path)
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		t.Fatalf("find the executable to test: %v: run make", err)
	}
	return path
}

// startPlane runs a server until the test ends. Its shell joins the cgroup before
// it becomes the server, so that all its memory counts.
func startPlane(t *testing.T) *plane {
	t.Helper()
	skiff := executable(t)
	p := &plane{t: t, group: newCgroup(t, memory), dir: t.TempDir(), ended: make(chan struct{})}
	p.log = filepath.Join(p.dir, "log")
	log, err := os.Create(p.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p.cmd = exec.Command("/bin/sh", "-c", `echo $$ > "$0" && exec "$@"`, p.group.procs(), skiff, "server",
		"--disable-agent", "--data-dir", filepath.Join(p.dir, "data"), "--node-name", "server", "--node-ip", "192.0.2.1",
		"--bind-address", "127.0.0.1", "--https-listen-port", strconv.Itoa(freePort(t)))
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { // ends with the process, which stop waits for
		defer close(p.ended)
		_ = p.cmd.Wait()
	}()
	t.Cleanup(p.stop)
	p.await()
	return p
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// kubeconfig is the administrator's.
func (p *plane) kubeconfig() string { return filepath.Join(p.dir, "data", "kubeconfig.yaml") }

// await returns when the server is ready.
func (p *plane) await() {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	for {
		err := p.connect(ctx)
		if err == nil {
			return
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-p.ended:
			p.t.Fatalf("the server ended: %v\n%s", p.cmd.ProcessState, p.lastWords())
		case <-ctx.Done():
			p.t.Fatalf("the server does not become ready: %v\n%s", err, p.lastWords())
		}
	}
}

func (p *plane) connect(ctx context.Context) (err error) {
	if p.config, err = clientcmd.BuildConfigFromFlags("", p.kubeconfig()); err != nil {
		return err
	}
	p.config.QPS = -1
	if p.client, err = kubernetes.NewForConfig(p.config); err != nil {
		return err
	}
	_, err = p.client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
	return err
}

// alive says why the server is not what it was, if it is not.
func (p *plane) alive() error {
	select {
	case <-p.ended:
		return fmt.Errorf("the server ended: %v\n%s", p.cmd.ProcessState, p.lastWords())
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
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(20 * time.Second):
		p.t.Error("the server does not stop")
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
	text, err := os.ReadFile(p.log)
	if err != nil {
		p.t.Error(err)
	}
	if bytes.Contains(text, []byte("panic")) {
		p.t.Errorf("something panicked:\n%s", p.lastWords())
	}
}

func (p *plane) lastWords() []byte {
	text, _ := os.ReadFile(p.log)
	return text[max(0, len(text)-1500):]
}
