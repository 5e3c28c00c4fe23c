package cluster

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/e2e/await"
	"github.com/skiff-sh/skiff/e2e/cluster/lab"
)

// createToken runs skiff token create on the server.
func (s *session) createToken(args ...string) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	out, err := s.server.Skiff(ctx, append([]string{"token", "create"}, args...)...).Output()
	if err != nil {
		s.t.Fatalf("skiff token create: %v: %s", err, out)
	}
	return strings.TrimSpace(string(out))
}

// stranger is a machine with nothing on it.
func (s *session) stranger(name string) *lab.Node {
	s.t.Helper()
	n, err := s.Add(name, lab.Near)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

// agentSays runs an agent with a data directory of its own until it has written
// the text or has ended, and returns what it wrote and whether it ended by itself.
func (s *session) agentSays(n *lab.Node, dir, text string, args ...string) (said string, ended bool) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	dir = filepath.Join(n.Dir, dir)
	defer func() {
		if out, err := n.Skiff(s.ctx, "killall", "--data-dir", dir).CombinedOutput(); err != nil {
			s.t.Errorf("killall: %v: %s", err, out)
		}
	}()
	cmd := n.Skiff(ctx, append([]string{"agent", "--data-dir", dir}, args...)...)
	out, in := io.Pipe()
	cmd.Stdout, cmd.Stderr = in, in
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	gone := make(chan error, 1)
	go func() {
		err := cmd.Wait()
		in.Close()
		gone <- err
	}()
	var all strings.Builder
	seen := false
	for lines := bufio.NewScanner(out); lines.Scan(); {
		all.WriteString(lines.Text() + "\n")
		if !seen && strings.Contains(all.String(), text) {
			seen = true
			cancel() // kills it, unless it has ended
		}
	}
	exit := new(exec.ExitError)
	if err := <-gone; !errors.As(err, &exit) {
		s.t.Errorf("the agent ended without an error: %v: %s", err, all.String())
		return all.String(), true
	}
	return all.String(), exit.Exited()
}

// Whoever comes with a token that is none, or not this cluster's, or not valid
// any more, is told what is wrong and what to do.
func TestJoinsRefused(t *testing.T) {
	c := ownCluster(t, "--disable-agent")
	s := c.session(t)
	n := s.stranger("stranger")
	whole, err := s.token()
	if err != nil {
		t.Fatal(err)
	}
	digest, _, _ := strings.Cut(whole, "::")
	other := "K10" + strings.Repeat("0", 64)
	good := s.createToken("--description", "good")
	id := good[strings.Index(good, "::")+2:][:6]
	short := s.createToken("--ttl", "1s")
	s.awaitTokenGone(short)
	for i, c := range []struct {
		name   string
		args   []string
		want   []string
		advice string
	}{
		{name: "no token", want: []string{"this machine has not joined a cluster yet"}, advice: "skiff token create on a server makes one"},
		{name: "nonsense", args: []string{"--token", "K10nonsense"}, want: []string{"the token is not valid"}, advice: "make one on a server with skiff token create"},
		{name: "half a token", args: []string{"--token", digest}, want: []string{`it has no "::"`}, advice: "skiff token create"},
		{name: "no digest", args: []string{"--token", good[strings.Index(good, "::")+2:]}, want: []string{"does not say which cluster to trust"}, advice: "use the whole token"},
		{name: "another cluster's digest", args: []string{"--token", strings.Replace(whole, digest, other, 1)}, want: []string{c.url()}, advice: "nothing secret was sent"},
		{name: "unknown token", args: []string{"--token", digest + "::abcdef.0123456789abcdef"}, want: []string{"the server does not take"}, advice: "skiff token create"},
		{name: "wrong secret", args: []string{"--token", digest + "::" + id + ".0123456789abcdef"}, want: []string{"the server does not take"}, advice: "skiff token create"},
		{name: "wrong password", args: []string{"--token", digest + "::server:wrong"}, want: []string{"the server does not take"}, advice: "skiff token create"},
		{name: "expired token", args: []string{"--token", short}, want: []string{"the server does not take"}, advice: "skiff token create"},
		{name: "wrong name", args: []string{"--token", good, "--node-name", "Bad_Name"}, want: []string{`node-name "Bad_Name"`}, advice: "set another with --node-name"},
		{name: "no URL", args: []string{"--token", good, "--server", "http://192.0.2.1"}, want: []string{`server "http://192.0.2.1"`}, advice: "expected https://HOST:PORT"},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := c.args
			if !strings.Contains(strings.Join(args, " "), "--server") {
				args = append([]string{"--server", s.url()}, args...)
			}
			said, ended := s.agentSays(n, filepath.Join("try", string(rune('a'+i))), "\x00", args...)
			for _, want := range append(c.want, c.advice) {
				if !strings.Contains(said, want) {
					t.Errorf("%q is not in what the agent says:\n%s", want, said)
				}
			}
			if !ended {
				t.Error("the agent does not end, though waiting cannot help")
			}
			if secret := good[strings.Index(good, "::")+2:]; strings.Contains(said, secret) {
				t.Errorf("a secret is told:\n%s", said)
			}
		})
	}
	nodes, err := s.client.CoreV1().Nodes().List(s.ctx, metav1.ListOptions{})
	if err != nil || len(nodes.Items) > 0 {
		t.Errorf("%d nodes have joined, %v", len(nodes.Items), err)
	}
}

// awaitTokenGone waits until a token's Secret is no more.
func (s *session) awaitTokenGone(token string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	id := token[strings.Index(token, "::")+2:][:6]
	_, err := await.Object[*corev1.Secret](ctx, s.client.CoreV1().Secrets(metav1.NamespaceSystem), nil, "bootstrap-token-"+id, nil)
	if err != nil {
		s.t.Fatal(err)
	}
}

// A token that is good for one machine is good for that one alone, however often
// it starts.
func TestOneTimeToken(t *testing.T) {
	c := ownCluster(t, "--disable-agent")
	s := c.session(t)
	token := s.createToken("--once")
	first, second := s.stranger("first"), s.stranger("second")
	if err := first.Start("agent", "--server", s.url(), "--token", token); err != nil {
		t.Fatal(err)
	}
	s.awaitNodeFor(patience, "first", nodeReady)
	said, ended := s.agentSays(second, "data", "\x00", "--server", s.url(), "--token", token)
	s.mustContain(said, "the server does not take", "node first joined with it", "skiff token create")
	if !ended {
		t.Error("the second machine waits for a token that is used up")
	}
	out, err := s.server.Skiff(s.ctx, "token", "ls").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "used by first") {
		t.Errorf("skiff token ls: %v %s", err, out)
	}

	t.Log("the first needs no token any more")
	if err := first.Stop(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := first.Start("agent", "--server", s.url()); err != nil {
		t.Fatal(err)
	}
	s.awaitNodeRestarted("first")
}

// awaitNodeRestarted waits until the node's Lease is renewed after now.
func (s *session) awaitNodeRestarted(name string) {
	s.t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	leases := s.client.CoordinationV1().Leases(corev1.NamespaceNodeLease)
	_, err := await.Object(ctx, leases, nil, name, func(l *coordinationv1.Lease) bool { return l.Spec.RenewTime.After(began) })
	if err != nil {
		s.t.Fatal(err)
	}
	s.awaitNodeFor(patience, name, nodeReady)
}

// An agent that comes before its server waits for it, and says so.
func TestAgentComesFirst(t *testing.T) {
	c := ownCluster(t, "--disable-agent")
	s := c.session(t)
	token := s.createToken()
	if err := s.server.Stop(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	n := s.stranger("early")
	if err := n.Start("agent", "--server", s.url(), "--token", token); err != nil {
		t.Fatal(err)
	}
	s.retry(func() error { return logHas(n, "start the server, or check --server") })
	if err := s.server.Start("server", "--disable-agent"); err != nil {
		t.Fatal(err)
	}
	if err := s.awaitAPI(); err != nil {
		t.Fatal(err)
	}
	s.awaitNodeFor(patience, "early", nodeReady)
}

// logHas fails as long as a text is not in a node's log.
func logHas(n *lab.Node, text string) error {
	log, err := os.ReadFile(n.Log())
	if err == nil && !strings.Contains(string(log), text) {
		err = errors.New("not said yet: " + text)
	}
	return err
}

// Nobody takes the name of a node that is there, nor the server's. Once the Node
// is deleted, its name is free.
func TestNodeNameTaken(t *testing.T) {
	c := ownCluster(t)
	box, err := c.startAgent("box", lab.Near)
	if err == nil {
		err = c.settle()
	}
	if err != nil {
		t.Fatal(err)
	}
	s := c.session(t)
	before, err := s.client.CoreV1().Nodes().Get(s.ctx, "box", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	token := s.createToken()
	thief := s.stranger("thief")
	for _, name := range []string{"box", "server"} {
		said, ended := s.agentSays(thief, "as-"+name, "NodeNameTaken", "--server", s.url(), "--token", token, "--node-name", name)
		s.mustContain(said, "NodeNameTaken", "--node-name")
		if ended {
			t.Errorf("the agent does not wait for the name %s: %s", name, said)
		}
		if _, err := os.Stat(filepath.Join(thief.Dir, "as-"+name, "agent/tls/client.crt")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the thief has a certificate for %s: %v", name, err)
		}
	}
	after, err := s.client.CoreV1().Nodes().Get(s.ctx, "box", metav1.GetOptions{})
	if err != nil || after.UID != before.UID || nodeAddress(after) != box.Address.String() {
		t.Errorf("the node has changed: %v, %v", after.Status.Addresses, err)
	}

	t.Log("the machine is gone for good: another gets its name")
	if err := box.Stop(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s.kubectl("delete", "node", "box")
	if err := thief.Start("agent", "--server", s.url(), "--token", token, "--node-name", "box"); err != nil {
		t.Fatal(err)
	}
	s.awaitNodeFor(patience, "box", func(n *corev1.Node) bool {
		return n.UID != before.UID && nodeReady(n) && nodeAddress(n) == thief.Address.String()
	})

	t.Log("and the first, when it comes back, is the stranger")
	if err := box.Start("agent", "--server", s.url()); err != nil {
		t.Fatal(err)
	}
	s.retry(func() error { return logHas(box, "NodeNameTaken") })
}
