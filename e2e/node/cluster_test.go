package node

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	typedcore "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/skiff-sh/skiff/e2e/await"
	"github.com/skiff-sh/skiff/e2e/box"
)

// cluster is a machine as one test uses it, in a namespace of its own.
type cluster struct {
	*machine
	t         *testing.T
	ctx       context.Context
	namespace string

	environment []string // of commands, further variables
}

// shared returns the shared machine with a namespace for this test, which runs
// beside others.
func shared(t *testing.T) *cluster {
	t.Helper()
	t.Parallel()
	m, err := sharedMachine()
	if err != nil {
		t.Fatal(err)
	}
	return m.cluster(t)
}

// ownCluster returns a machine of the test's own with a server that runs, the box
// image and a namespace.
func ownCluster(t *testing.T, args ...string) *cluster {
	t.Helper()
	return ownMachine(t, args...).open(t)
}

// open starts the machine, with the box image, and makes a namespace for the test.
func (m *machine) open(t *testing.T) *cluster {
	t.Helper()
	if err := m.start(); err != nil {
		t.Fatal(err)
	}
	if err := m.importBox(); err != nil {
		t.Fatal(err)
	}
	return m.cluster(t)
}

// cluster makes a namespace for the test.
func (m *machine) cluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{machine: m, t: t, ctx: t.Context(), namespace: namespaceName(t.Name(), int(m.clusters.Add(1)))}
	_, err := m.client.CoreV1().Namespaces().Create(c.ctx,
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: c.namespace}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			c.report()
		}
		err := m.client.CoreV1().Namespaces().Delete(context.Background(), c.namespace, metav1.DeleteOptions{})
		if err != nil && m.pin == "" {
			t.Errorf("delete namespace: %v", err)
		}
	})
	return c
}

// namespaceName makes "liveness-restarts-7" of "TestLivenessRestarts".
func namespaceName(test string, number int) string {
	var b strings.Builder
	for i, r := range strings.TrimPrefix(test, "Test") {
		switch {
		case r == '/' || r == '_':
			b.WriteByte('-')
			continue
		case r >= 'A' && r <= 'Z' && i > 0:
			b.WriteByte('-')
		}
		b.WriteRune(r)
	}
	return fmt.Sprintf("%s-%d", strings.ToLower(b.String()), number)
}

// report says how the namespace looks.
func (c *cluster) report() {
	for _, args := range [][]string{
		{"get", "pods,services,endpoints", "-o", "wide"},
		{"get", "events", "--sort-by=.metadata.creationTimestamp"},
		{"describe", "pods"},
		{"describe", "nodes"},
	} {
		out, err := c.try(args...)
		c.t.Logf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// kubectlVariable names another kubectl than the carried one.
const kubectlVariable = "SKIFF_TEST_KUBECTL"

// kubectlCommand is a kubectl's command line in the test's namespace.
func (c *cluster) kubectlCommand(ctx context.Context, args ...string) *exec.Cmd {
	args = append([]string{"--namespace", c.namespace}, args...)
	if other := os.Getenv(kubectlVariable); other != "" {
		return c.asUser(ctx, other, args...)
	}
	return c.asUser(ctx, skiff, append([]string{"kubectl"}, args...)...)
}

// try runs kubectl in the test's namespace.
func (c *cluster) try(args ...string) (string, error) { return c.tryWith(nil, args...) }

func (c *cluster) tryWith(in io.Reader, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return c.finishCommand(c.kubectlCommand(ctx, args...), in)
}

// asUser is a command with the test's environment.
func (c *cluster) asUser(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := c.command(ctx, name, args...)
	cmd.Env = append(cmd.Env, c.environment...)
	return cmd
}

// kubectl is try for commands that must succeed.
func (c *cluster) kubectl(args ...string) string {
	c.t.Helper()
	out, err := c.try(args...)
	if err != nil {
		c.t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// apply applies a manifest.
func (c *cluster) apply(manifest string) string {
	c.t.Helper()
	out, err := c.tryWith(strings.NewReader(manifest), "apply", "-f", "-")
	if err != nil {
		c.t.Fatalf("kubectl apply: %v\n%s\n%s", err, out, manifest)
	}
	return out
}

func (c *cluster) pods() typedcore.PodInterface { return c.client.CoreV1().Pods(c.namespace) }

// pod returns a Pod that runs a shell script in the box image and takes no
// time to end.
func pod(name, script string) *corev1.Pod {
	grace := int64(1)
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": name}},
		Spec: corev1.PodSpec{
			TerminationGracePeriodSeconds: &grace,
			Containers:                    []corev1.Container{{Name: "main", Image: box.Image}},
		},
	}
	if script != "" {
		p.Spec.Containers[0].Command = []string{"sh", "-c", script}
	}
	return p
}

// once returns a Pod that is not restarted.
func once(name, script string) *corev1.Pod {
	p := pod(name, script)
	p.Spec.RestartPolicy = corev1.RestartPolicyNever
	return p
}

func (c *cluster) create(p *corev1.Pod) *corev1.Pod {
	c.t.Helper()
	p, err := c.pods().Create(c.ctx, p, metav1.CreateOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	return p
}

// awaitPod waits until the condition holds for the Pod; nil is for its end.
func (c *cluster) awaitPod(name string, condition func(*corev1.Pod) bool) *corev1.Pod {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, patience)
	defer cancel()
	p, err := await.Object(ctx, c.pods(), nil, name, condition)
	if err != nil {
		c.t.Fatal(err)
	}
	return p
}

// start creates the Pod and waits until it is Ready.
func (c *cluster) startPod(p *corev1.Pod) *corev1.Pod {
	c.t.Helper()
	c.create(p)
	return c.awaitPod(p.Name, podReady)
}

// finish creates the Pod, waits for its end and returns it with its log.
func (c *cluster) finish(p *corev1.Pod) (*corev1.Pod, string) {
	c.t.Helper()
	c.create(p)
	p = c.awaitPod(p.Name, podEnded)
	return p, c.logs(p.Name)
}

// awaitLog waits until the Pod has written all the parts.
func (c *cluster) awaitLog(name string, parts ...string) {
	c.t.Helper()
	c.retry(func() error {
		log := c.logs(name)
		for _, part := range parts {
			if !strings.Contains(log, part) {
				return fmt.Errorf("%s has not written %q: %q", name, part, log)
			}
		}
		return nil
	})
}

func (c *cluster) logs(name string) string {
	c.t.Helper()
	log, err := c.pods().GetLogs(name, &corev1.PodLogOptions{}).DoRaw(c.ctx)
	if err != nil {
		c.t.Fatal(err)
	}
	return string(log)
}

func podReady(p *corev1.Pod) bool { return podCondition(p, corev1.PodReady) == corev1.ConditionTrue }

func podCondition(p *corev1.Pod, kind corev1.PodConditionType) corev1.ConditionStatus {
	for _, c := range p.Status.Conditions {
		if c.Type == kind {
			return c.Status
		}
	}
	return ""
}

func podEnded(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

// mainStatus is the status of the Pod's first container; zero if there is none
// yet.
func mainStatus(p *corev1.Pod) corev1.ContainerStatus {
	if len(p.Status.ContainerStatuses) == 0 {
		return corev1.ContainerStatus{}
	}
	return p.Status.ContainerStatuses[0]
}

// awaitEvent waits for an event about the object with that reason and text.
func (c *cluster) awaitEvent(object, reason, text string) *corev1.Event {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, patience)
	defer cancel()
	e, err := await.Object(ctx, c.client.CoreV1().Events(c.namespace), nil, "", func(e *corev1.Event) bool {
		return e.InvolvedObject.Name == object && e.Reason == reason && strings.Contains(e.Message, text)
	})
	if err != nil {
		c.t.Fatalf("no event %s %q of %s: %v", reason, text, object, err)
	}
	return e
}

// exec runs a shell script in the Pod's first container.
func (c *cluster) exec(name, script string) string {
	c.t.Helper()
	return c.kubectl("exec", name, "--", "sh", "-c", script)
}

// retry calls fn until it succeeds.
func (c *cluster) retry(fn func() error) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, patience)
	defer cancel()
	if err := await.Try(ctx, fn); err != nil {
		c.t.Fatal(err)
	}
}

// page returns what a URL answers, connecting with the client.
func page(client *http.Client, url string) (string, error) {
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

// awaitPage retries until the URL answers, from the machine itself.
func (c *cluster) awaitPage(url string) string {
	c.t.Helper()
	var body string
	c.retry(func() (err error) {
		body, err = page(c.httpClient(), url)
		return err
	})
	return body
}

// mustContain fails unless the text has all the parts.
func (c *cluster) mustContain(text string, parts ...string) {
	c.t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			c.t.Errorf("%q is not in:\n%s", part, text)
		}
	}
}
