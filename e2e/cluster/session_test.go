package cluster

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	typedcore "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/skiff-sh/skiff/e2e/await"
	"github.com/skiff-sh/skiff/e2e/box"
	"github.com/skiff-sh/skiff/e2e/cluster/lab"
)

// session is a cluster as one test uses it, in a namespace of its own.
type session struct {
	*cluster
	t         *testing.T
	ctx       context.Context
	namespace string
}

// shared returns the shared cluster with a namespace for this test, which runs
// beside others.
func shared(t *testing.T) *session {
	t.Helper()
	t.Parallel()
	c, err := sharedCluster()
	if err != nil {
		t.Fatal(err)
	}
	return c.session(t)
}

// session makes a namespace for the test.
func (c *cluster) session(t *testing.T) *session {
	t.Helper()
	s := &session{cluster: c, t: t, ctx: t.Context(), namespace: fmt.Sprintf("test-%d", c.sessions.Add(1))}
	_, err := c.client.CoreV1().Namespaces().Create(s.ctx,
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.namespace}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			s.report()
		}
		// A cluster of one test's own may be gone, or broken on purpose.
		_ = c.client.CoreV1().Namespaces().Delete(context.Background(), s.namespace, metav1.DeleteOptions{})
	})
	return s
}

// report says how things look.
func (s *session) report() {
	for _, args := range [][]string{
		{"get", "nodes,pods,services,endpointslices", "-o", "wide"},
		{"get", "events", "--sort-by=.metadata.creationTimestamp"},
		{"describe", "nodes"},
	} {
		out, err := s.try(args...)
		s.t.Logf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// kubectlCommand is a kubectl on the server, in the test's namespace.
func (s *session) kubectlCommand(ctx context.Context, args ...string) *exec.Cmd {
	return s.server.Skiff(ctx, append([]string{"kubectl", "--namespace", s.namespace}, args...)...)
}

// try runs kubectl in the test's namespace.
func (s *session) try(args ...string) (string, error) { return s.tryWith(nil, args...) }

func (s *session) tryWith(in io.Reader, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return output(s.kubectlCommand(ctx, args...), in)
}

// kubectl is try for commands that must succeed.
func (s *session) kubectl(args ...string) string {
	s.t.Helper()
	out, err := s.try(args...)
	if err != nil {
		s.t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// apply applies a manifest.
func (s *session) apply(manifest string) {
	s.t.Helper()
	out, err := s.tryWith(strings.NewReader(manifest), "apply", "-f", "-")
	if err != nil {
		s.t.Fatalf("kubectl apply: %v\n%s\n%s", err, out, manifest)
	}
}

// exec runs a shell script in the Pod's first container.
func (s *session) exec(pod, script string) string {
	s.t.Helper()
	return s.kubectl("exec", pod, "--", "sh", "-c", script)
}

func (s *session) pods() typedcore.PodInterface { return s.client.CoreV1().Pods(s.namespace) }

// pod returns a Pod of the box image that serves on the node.
func pod(name, node string) *corev1.Pod {
	grace := int64(1)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": "web"}},
		Spec: corev1.PodSpec{
			NodeSelector:                  map[string]string{corev1.LabelHostname: node},
			TerminationGracePeriodSeconds: &grace,
			Containers:                    []corev1.Container{{Name: "main", Image: box.Image}},
		},
	}
}

// onEachNode starts a Pod, named as its node, on all of them.
func (s *session) onEachNode() map[string]*corev1.Pod {
	s.t.Helper()
	pods := map[string]*corev1.Pod{}
	for _, n := range s.nodes {
		s.create(pod(n.Name, n.Name))
	}
	for _, n := range s.nodes {
		pods[n.Name] = s.awaitPod(n.Name, podReady)
	}
	return pods
}

func (s *session) create(p *corev1.Pod) {
	s.t.Helper()
	if _, err := s.pods().Create(s.ctx, p, metav1.CreateOptions{}); err != nil {
		s.t.Fatal(err)
	}
}

// awaitPod waits until the condition holds for the Pod; nil is for its end.
func (s *session) awaitPod(name string, condition func(*corev1.Pod) bool) *corev1.Pod {
	s.t.Helper()
	return s.awaitPodFor(patience, name, condition)
}

// awaitPodFor is awaitPod with a patience of one's own. Without a name, any Pod
// of the namespace will do.
func (s *session) awaitPodFor(d time.Duration, name string, condition func(*corev1.Pod) bool) *corev1.Pod {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, d)
	defer cancel()
	p, err := await.Object(ctx, s.pods(), nil, name, condition)
	if err != nil {
		s.t.Fatal(err)
	}
	return p
}

func podReady(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue && p.DeletionTimestamp == nil
		}
	}
	return false
}

// awaitNodeFor is for what a node comes to within a time.
func (s *session) awaitNodeFor(d time.Duration, name string, condition func(*corev1.Node) bool) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, d)
	defer cancel()
	if _, err := await.Object(ctx, s.client.CoreV1().Nodes(), nil, name, condition); err != nil {
		s.t.Fatal(err)
	}
}

// retry calls fn until it succeeds.
func (s *session) retry(fn func() error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	if err := await.Try(ctx, fn); err != nil {
		s.t.Fatal(err)
	}
}

// mustContain fails unless the text has all the parts.
func (s *session) mustContain(text string, parts ...string) {
	s.t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			s.t.Errorf("%q is not in:\n%s", part, text)
		}
	}
}

// page returns what a URL answers to a node.
func page(from *lab.Node, url string) (string, error) {
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DialContext: from.Dial, DisableKeepAlives: true}}
	response, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", url, response.Status, body)
	}
	return string(body), err
}
