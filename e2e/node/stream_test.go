package node

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/console"

	"github.com/skiff-sh/skiff/e2e/box"
)

func TestLogs(t *testing.T) {
	c := shared(t)
	p := once("talker", "for i in 1 2 3 4 5; do echo line $i; done; sleep 2; echo error >&2; echo last")
	c.create(p)
	c.awaitPod("talker", podReady)
	follow := c.follow("logs", "-f", "talker")
	follow.until("line 5")
	if rest := follow.rest(); rest != "error\nlast\n" && rest != "last\nerror\n" {
		t.Errorf("followed: %q", rest)
	}
	if got := c.kubectl("logs", "talker", "--tail=2"); !strings.HasSuffix(got, "last\n") && !strings.HasSuffix(got, "error\n") || strings.Count(got, "\n") != 2 {
		t.Errorf("tail: %q", got)
	}
	stamped := strings.Split(c.kubectl("logs", "talker", "--timestamps", "--tail=1"), " ")
	if _, err := time.Parse(time.RFC3339Nano, stamped[0]); err != nil {
		t.Errorf("timestamp: %v", err)
	}
	if got := c.kubectl("logs", "talker", "--since-time="+stamped[0]); strings.Contains(got, "line") || !strings.Contains(got, "last") {
		t.Errorf("since %s: %q", stamped[0], got)
	}
	if got := c.kubectl("logs", "talker", "--since=1h"); strings.Count(got, "\n") != 7 {
		t.Errorf("since an hour: %q", got)
	}
	if got := c.kubectl("logs", "talker", "--limit-bytes=6"); got != "line 1" {
		t.Errorf("limited: %q", got)
	}
	if got := c.kubectl("logs", "-l", "app=talker", "--prefix", "--tail=1"); !strings.HasPrefix(got, "[pod/talker/main] ") {
		t.Errorf("with prefix: %q", got)
	}
	out, err := c.try("logs", "talker", "--previous")
	if err == nil {
		t.Errorf("previous log of a container that ran once: %q", out)
	}
	c.mustContain(out, `previous terminated container "main" in pod "talker" not found`)
	out, _ = c.try("logs", "talker", "-c", "other")
	c.mustContain(out, "container other is not valid for pod talker")
}

func TestExec(t *testing.T) {
	c := shared(t)
	c.startPod(pod("box", ""))
	out, err := c.tryWith(strings.NewReader("a\nb\n"), "exec", "-i", "box", "--", "wc", "-l")
	if err != nil || strings.TrimSpace(out) != "2" {
		t.Errorf("input: %v %q", err, out)
	}
	out, err = c.try("exec", "box", "--", "sh", "-c", "echo out; echo err >&2; exit 5")
	if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.ExitCode() != 5 {
		t.Errorf("exit: %v", err)
	}
	c.mustContain(out, "out\n", "err\n", "command terminated with exit code 5")
	out, _ = c.try("exec", "box", "--", "/no/such")
	c.mustContain(out, "/no/such", "no such file or directory")
	if out := c.kubectl("exec", "box", "--", "sh", "-c", "seq 1 200000 | tail -1; seq 1 200000"); len(out) != len("200000\n")+1_288_895-1 && !strings.HasSuffix(out, "\n199999\n200000\n") {
		t.Errorf("much output: %d bytes", len(out))
	}
}

// terminal runs a command on a terminal of its own.
type terminal struct {
	console.Console
	cmd *exec.Cmd

	mu   sync.Mutex
	seen bytes.Buffer
}

func (c *cluster) terminal(args ...string) *terminal {
	c.t.Helper()
	master, path, err := console.NewPty()
	if err != nil {
		c.t.Fatal(err)
	}
	slave, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		c.t.Fatal(err)
	}
	defer slave.Close()
	term := &terminal{Console: master, cmd: c.kubectlCommand(c.ctx, args...)}
	if err := master.Resize(console.WinSize{Width: 101, Height: 41}); err != nil {
		c.t.Fatal(err)
	}
	term.cmd.Stdin, term.cmd.Stdout, term.cmd.Stderr = slave, slave, slave
	term.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := c.inside(term.cmd.Start); err != nil {
		c.t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			term.mu.Lock()
			term.seen.Write(buf[:n])
			term.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	c.t.Cleanup(func() {
		_ = term.cmd.Process.Kill() // ended, if the test passed
		master.Close()
		<-read
	})
	return term
}

func (c *cluster) see(term *terminal, text string) {
	c.t.Helper()
	c.retry(func() error { return term.shows(text) })
}

func (t *terminal) shows(text string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !strings.Contains(t.seen.String(), text) {
		return fmt.Errorf("no %q on the terminal: %q", text, t.seen.String())
	}
	return nil
}

func (c *cluster) enter(term *terminal, text string) {
	c.t.Helper()
	if _, err := term.Write([]byte(text)); err != nil {
		c.t.Fatal(err)
	}
}

func TestExecOnTerminal(t *testing.T) {
	c := shared(t)
	c.startPod(pod("box", ""))
	term := c.terminal("exec", "-it", "box", "--", "sh")
	c.enter(term, "test -t 0 && echo ter''minal; stty size\n")
	c.see(term, "terminal")
	c.see(term, "41 101")
	if err := term.Resize(console.WinSize{Width: 77, Height: 33}); err != nil {
		t.Fatal(err)
	}
	c.enter(term, "while ! stty size | grep '33 77'; do sleep 0.1; done; echo res''ized\n")
	c.see(term, "resized")
	c.enter(term, `sh -c "trap 'echo inter''rupted; exit' INT; echo wait''ing; while true; do sleep 0.1; done"`+"\n")
	c.see(term, "waiting")
	// The terminal's interrupt reaches the process there. A shell that is just about
	// to start its next child may miss one.
	c.retry(func() error {
		c.enter(term, "\x03")
		return term.shows("interrupted")
	})
	c.enter(term, "exit 4\n")
	if exit := new(exec.ExitError); !errors.As(term.cmd.Wait(), &exit) || exit.ExitCode() != 4 {
		t.Errorf("exit code %d, want 4", exit.ExitCode())
	}
}

func TestCopy(t *testing.T) {
	c := shared(t)
	c.startPod(pod("box", ""))
	here := t.TempDir()
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	if err := os.MkdirAll(filepath.Join(here, "tree/deep"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"tree/small": []byte("small"), "tree/deep/big": big} {
		if err := os.WriteFile(filepath.Join(here, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c.kubectl("cp", filepath.Join(here, "tree"), "box:/data/copy")
	c.mustContain(c.exec("box", "cat /data/copy/small; wc -c /data/copy/deep/big"), "small", "1048576")
	c.kubectl("cp", "box:/data/copy", filepath.Join(here, "back"))
	if back, err := os.ReadFile(filepath.Join(here, "back/deep/big")); err != nil || !bytes.Equal(back, big) {
		t.Errorf("what came back: %v, %d bytes, equal %t", err, len(back), bytes.Equal(back, big))
	}
}

func TestAttach(t *testing.T) {
	c := shared(t)
	p := once("listener", "while read line; do echo got $line; done; echo end")
	p.Spec.Containers[0].Stdin, p.Spec.Containers[0].StdinOnce = true, true
	c.startPod(p)
	attached := c.follow("attach", "-i", "listener")
	if _, err := attached.in.Write([]byte("hello\n")); err != nil {
		t.Fatal(err)
	}
	attached.until("got hello")
	attached.in.Close()
	c.mustContain(attached.rest(), "end")
	c.awaitPod("listener", podEnded)
	if log := c.logs("listener"); log != "got hello\nend\n" {
		t.Errorf("log %q", log)
	}
	out := c.kubectl("run", "oneoff", "--image="+box.Image, "--restart=Never", "--rm", "-i", "--quiet", "--", "sh", "-c", "sleep 1; echo one-off")
	c.mustContain(out, "one-off")
}

// forwards asks the Pod web through a forwarded port, several times at once.
func (c *cluster) forwards(object, port string) {
	c.t.Helper()
	forward := c.follow("port-forward", object, port)
	defer forward.stop()
	var address string
	if _, err := fmt.Sscanf(forward.until("Forwarding from 127.0.0.1"), "Forwarding from %s", &address); err != nil {
		c.t.Fatal(err)
	}
	errs := make(chan error)
	for range 5 {
		go func() {
			body, err := page(&http.Client{Timeout: 10 * time.Second}, "http://"+address)
			if err == nil && body != "web 127.0.0.1" {
				err = fmt.Errorf("answer %q", body)
			}
			errs <- err
		}()
	}
	for range 5 {
		if err := <-errs; err != nil {
			c.t.Errorf("%s: %v", object, err)
		}
	}
}

func TestPortForward(t *testing.T) {
	c := shared(t)
	c.startPod(pod("web", ""))
	c.kubectl("expose", "pod", "web", "--port=80", "--target-port=8080")
	c.forwards("pod/web", ":8080")
	c.forwards("service/web", ":80")
	forward := c.follow("port-forward", "pod/web", ":9")
	var address string
	if _, err := fmt.Sscanf(forward.until("Forwarding from 127.0.0.1"), "Forwarding from %s", &address); err != nil {
		t.Fatal(err)
	}
	if body, err := page(&http.Client{Timeout: 10 * time.Second}, "http://"+address); err == nil {
		t.Errorf("a closed port answers %q", body)
	}
	forward.until("refused")
}
