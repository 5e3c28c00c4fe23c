package cluster

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What kubectl streams reaches the containers of every node, wherever it stands.
func TestStreamsToEachNode(t *testing.T) {
	s := shared(t)
	s.onEachNode()
	s.apply(webService)
	for _, n := range s.nodes {
		t.Run(n.Name, func(t *testing.T) { s.streams(t, n.Name) })
	}
}

// streams tries everything with the Pod of that name.
func (s *session) streams(t *testing.T, pod string) {
	s.mustContain(s.kubectl("logs", pod), "serving")
	out, err := s.tryWith(strings.NewReader("a\nb\n"), "exec", "-i", pod, "--", "sh", "-c", "wc -l; echo err >&2; exit 5")
	if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.ExitCode() != 5 {
		t.Errorf("exec: %v", err)
	}
	s.mustContain(out, "2\n", "err\n", "command terminated with exit code 5")

	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<17)
	here := t.TempDir()
	if err := os.WriteFile(filepath.Join(here, "big"), big, 0o644); err != nil {
		t.Fatal(err)
	}
	s.kubectl("cp", filepath.Join(here, "big"), pod+":/data/big")
	s.kubectl("cp", pod+":/data/big", filepath.Join(here, "back"))
	if back, err := os.ReadFile(filepath.Join(here, "back")); err != nil || !bytes.Equal(back, big) {
		t.Errorf("copied: %v, %d bytes, want %d", err, len(back), len(big))
	}

	ns := s.namespace
	for path, want := range map[string]string{
		"/api/v1/nodes/" + pod + "/proxy/healthz":                         "ok",
		"/api/v1/nodes/" + pod + "/proxy/pods":                            `"name":"` + pod + `"`,
		"/api/v1/namespaces/" + ns + "/pods/" + pod + ":8080/proxy/":      pod + " ",
		"/api/v1/namespaces/" + ns + "/pods/http:" + pod + ":8080/proxy/": pod + " ",
	} {
		if out, err := s.try("get", "--raw", path); err != nil || !strings.Contains(out, want) {
			t.Errorf("%s: %v %.300s, want %q", path, err, out, want)
		}
	}
	s.serviceProxy(t, pod)
	s.portForward(t, pod)
	s.followLogs(t, pod)
}

// serviceProxy asks the Service until the Pod's turn comes.
func (s *session) serviceProxy(t *testing.T, pod string) {
	path := "/api/v1/namespaces/" + s.namespace + "/services/web:http/proxy/"
	s.retry(func() error {
		out, err := s.client.CoreV1().RESTClient().Get().AbsPath(path).DoRaw(s.ctx)
		if err != nil || !strings.HasPrefix(string(out), pod+" ") {
			return fmt.Errorf("no answer from %s: %s %w", pod, out, err)
		}
		return nil
	})
}

// portForward gets a page through kubectl port-forward.
func (s *session) portForward(t *testing.T, pod string) {
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	cmd := s.kubectlCommand(ctx, "port-forward", "pod/"+pod, ":8080")
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	defer func() {
		cancel()
		_ = cmd.Wait() // killed
	}()
	if err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("port-forward says %q, %v", line, err)
	}
	address, _, _ := strings.Cut(strings.TrimPrefix(line, "Forwarding from "), " ")
	for range 3 {
		if body, err := page(s.server, "http://"+address); err != nil || !strings.HasPrefix(body, pod+" ") {
			t.Errorf("through the forwarded port: %q %v", body, err)
		}
	}
}

// followLogs sees a line as it is written.
func (s *session) followLogs(t *testing.T, pod string) {
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	cmd := s.kubectlCommand(ctx, "logs", "-f", pod)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	defer func() {
		cancel()
		_ = cmd.Wait() // killed
	}()
	if err != nil {
		t.Fatal(err)
	}
	s.exec(pod, "echo a new line >/proc/1/fd/1")
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if lines.Text() == "a new line" {
			return
		}
	}
	t.Error("the log ended without the line that was written")
}
