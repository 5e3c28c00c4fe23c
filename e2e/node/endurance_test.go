package node

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/remotecommand"
)

// slowVariable makes these tests as large as they claim: make test-node.
const slowVariable = "SKIFF_TEST_SLOW"

// bySpeed is a number for make test, or a large one for make test-node.
func bySpeed(quick, slow int) int {
	if os.Getenv(slowVariable) != "" {
		return slow
	}
	return quick
}

// writer writes a numbered line of a kilobyte a thousand times a second, in portions
// of ten, with the time of each portion.
const writer = `
i=0; pad=$(head -c 980 /dev/zero | tr '\0' x)
while true; do
	n=0; while [ $n -lt 10 ]; do echo "$i $pad"; i=$((i+1)); n=$((n+1)); done
	usleep 9000
done`

// What a container writes while nobody looks after it is all there, in its order,
// and the container was never held up.
func TestLogThroughDowntime(t *testing.T) {
	t.Parallel()
	c := ownCluster(t)
	p := c.startPod(once("writer", writer))
	away := time.Duration(bySpeed(2, 10)) * time.Second
	lines := func() int { return len(c.numbers(p)) }
	c.retry(func() error { return atLeast(lines(), 100) })
	if _, err := c.signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	before := lines()
	timer := time.NewTimer(away) // what is tested is this time
	<-timer.C
	written := lines() - before
	if err := c.start(); err != nil {
		t.Fatal(err)
	}
	c.retry(func() error { return atLeast(lines(), before+written+100) })
	// A thousand a second are aimed at; the machine may be busy.
	if least := int(away.Seconds()) * 100; written < least {
		t.Errorf("%d lines in %s without skiff, want at least %d", written, away, least)
	}
	numbers := c.numbers(p)
	for i, n := range numbers {
		if n != i {
			t.Fatalf("line %d has the number %d, of %d lines", i, n, len(numbers))
		}
	}
	t.Logf("%d lines, %d of them while skiff was away for %s", len(numbers), written, away)
	c.kubectl("delete", "pod", "writer", "--grace-period=0", "--force")
}

func atLeast(n, want int) error {
	if n < want {
		return fmt.Errorf("%d, want at least %d", n, want)
	}
	return nil
}

// numbers are those of the complete lines in all log files of the Pod's container.
func (c *cluster) numbers(p *corev1.Pod) []int {
	c.t.Helper()
	dir := filepath.Join(c.host.LogDir, p.Namespace+"_"+p.Name+"_"+string(p.UID), "main")
	files, err := filepath.Glob(filepath.Join(dir, "0.log*"))
	if err != nil {
		c.t.Fatal(err)
	}
	// The rotated ones carry their time in their names; the newest has none.
	slices.SortFunc(files, func(a, b string) int {
		if x, y := filepath.Base(a) == "0.log", filepath.Base(b) == "0.log"; x != y {
			if x {
				return 1
			}
			return -1
		}
		return strings.Compare(a, b)
	})
	var all []int
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			c.t.Fatal(err)
		}
		lines := bufio.NewScanner(bytes.NewReader(data[:bytes.LastIndexByte(data, '\n')+1]))
		for lines.Scan() {
			if fields := strings.Fields(lines.Text()); len(fields) == 5 {
				n, err := strconv.Atoi(fields[3])
				if err != nil {
					c.t.Fatal(err)
				}
				all = append(all, n)
			}
		}
	}
	return all
}

// belongings are what a server's process and its node hold beside what an inventory
// has.
type belongings struct {
	Files     int // open, of the server
	Snapshots int
	Rules     int // lines of the machine's rules
}

func (c *cluster) belongings() (b belongings, err error) {
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", c.process.Pid))
	if err != nil {
		return b, err
	}
	b.Files = len(open)
	// A snapshot's directory is a number.
	found, err := filepath.Glob(filepath.Join(c.host.DataDir, "agent", "containerd", "*snapshotter*", "snapshots", "*"))
	if err != nil {
		return b, err
	}
	b.Snapshots = len(found)
	err = c.inside(func() error {
		out, err := exec.Command("nft", "list", "ruleset").Output()
		b.Rules = bytes.Count(out, []byte("\n")) + bytes.Count(out, []byte(" . "))
		return err
	})
	return b, err
}

// Many Pods come and go, and leave nothing.
func TestPodsLeaveNothing(t *testing.T) {
	t.Parallel()
	c := ownCluster(t)
	c.comeAndGo(t, "warm", 5) // what is made once and kept is there then
	c.quiesce()
	before, err := c.belongings()
	if err != nil {
		t.Fatal(err)
	}
	const atOnce = 25
	for begun, all := 0, bySpeed(25, 500); begun < all; begun += atOnce {
		c.comeAndGo(t, "pod-"+strconv.Itoa(begun), atOnce)
	}
	if s := c.quiesce(); len(s.pods) > 0 {
		t.Errorf("Pods are left: %v", s.pods)
	}
	c.retry(func() error {
		after, err := c.belongings()
		if err != nil {
			return err
		}
		// Idle connections and the watch of a file come and go.
		if after.Files > before.Files+5 || after.Snapshots != before.Snapshots || after.Rules != before.Rules {
			return fmt.Errorf("before %+v, after %+v", before, after)
		}
		return nil
	})
	logs, err := os.ReadDir(c.host.LogDir)
	if err != nil || len(logs) > 0 {
		t.Errorf("directories of logs are left: %v, %v", logs, err)
	}
}

// comeAndGo has some Pods with a host port, volumes and an end of their own come and go.
func (c *cluster) comeAndGo(t *testing.T, prefix string, n int) {
	t.Helper()
	for i := range n {
		p := pod(fmt.Sprintf("%s-%d", prefix, i), "")
		p.Labels = map[string]string{"round": prefix}
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 8080, HostPort: int32(20000 + i)}}
		p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}}}}
		p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/v"}}
		c.create(p)
	}
	for i := range n {
		c.awaitPod(fmt.Sprintf("%s-%d", prefix, i), podReady)
	}
	err := c.pods().DeleteCollection(c.ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "round=" + prefix})
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		c.awaitPod(fmt.Sprintf("%s-%d", prefix, i), nil)
	}
}

// goroutinesOf counts what Go's runtime printed of goroutines by what they were begun
// with.
func goroutinesOf(stacks string) map[string]int {
	found := map[string]int{}
	for stack := range strings.SplitSeq(stacks, "\n\n") {
		begun := ""
		for line := range strings.Lines(stack) {
			switch {
			case strings.HasPrefix(line, "created by "):
				found[begun]++
			case strings.HasPrefix(line, "goroutine "), strings.HasPrefix(line, "\t"), strings.HasPrefix(line, "runtime.goexit"),
				strings.HasPrefix(line, "sync."), strings.HasPrefix(line, "golang.org/x/sync/errgroup."):
			default:
				begun = strings.TrimSpace(line[:max(0, strings.LastIndex(line, "("))])
			}
		}
	}
	return found
}

// lastGoroutines ends the server and returns what goroutines it had.
func (c *cluster) lastGoroutines() map[string]int {
	c.t.Helper()
	c.quiesce()
	began, err := os.ReadFile(c.log())
	if err != nil {
		c.t.Fatal(err)
	}
	if err := c.process.Signal(unix.SIGQUIT); err != nil { // Go's runtime prints all goroutines
		c.t.Fatal(err)
	}
	<-c.ended
	text, err := os.ReadFile(c.log())
	if err != nil {
		c.t.Fatal(err)
	}
	if err := os.Truncate(c.log(), int64(len(began))); err != nil { // stacks look like a panic's
		c.t.Fatal(err)
	}
	return goroutinesOf(string(text[len(began):]))
}

// A Pod that runs costs one goroutine of ours, its worker's, whatever it has: else only
// the connection to its shim has some.
func TestPodCostsOneGoroutine(t *testing.T) {
	t.Parallel()
	c := ownCluster(t)
	before := c.lastGoroutines()
	if err := c.start(); err != nil {
		t.Fatal(err)
	}
	c.kubectl("create", "configmap", "files", "--from-literal=a=b")
	const pods = 12
	for i := range pods {
		p := pod(fmt.Sprintf("idle-%d", i), "")
		p.Spec.Containers = append(p.Spec.Containers, *p.Spec.Containers[0].DeepCopy())
		p.Spec.Containers[1].Name, p.Spec.Containers[1].Command = "second", []string{"sleep", "1000000"}
		p.Spec.Containers[0].ReadinessProbe = &corev1.Probe{PeriodSeconds: 3600, ProbeHandler: corev1.ProbeHandler{
			HTTPGet: &corev1.HTTPGetAction{Path: "/", Port: intstr.FromInt32(8080)}}}
		p.Spec.Containers[1].LivenessProbe = &corev1.Probe{PeriodSeconds: 3600, ProbeHandler: corev1.ProbeHandler{
			Exec: &corev1.ExecAction{Command: []string{"true"}}}}
		p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: "files"}}}}}
		p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/v"}}
		c.create(p)
	}
	for i := range pods {
		c.awaitPod(fmt.Sprintf("idle-%d", i), podReady)
	}
	after := c.lastGoroutines()
	const worker = "github.com/skiff-sh/skiff/internal/agent.(*Agent).hire.func1"
	if after[worker] != pods {
		t.Errorf("%d Pods have %d workers: %v", pods, after[worker], after)
	}
	for begun, n := range after {
		if n-before[begun] >= pods/2 && begun != worker && !strings.HasPrefix(begun, "github.com/containerd/ttrpc.") {
			t.Errorf("%d goroutines of %s, and %d with %d Pods", before[begun], begun, n, pods)
		}
	}
}

// executor is a client's over WebSockets, without a way back to SPDY.
func (c *cluster) executor(pod string, command ...string) remotecommand.Executor {
	c.t.Helper()
	url := c.client.CoreV1().RESTClient().Post().Resource("pods").Namespace(c.namespace).Name(pod).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Container: "main", Command: command, Stdout: true, Stderr: true}, scheme.ParameterCodec).URL()
	e, err := remotecommand.NewWebSocketExecutor(c.config, "GET", url.String())
	if err != nil {
		c.t.Fatal(err)
	}
	return e
}

// Thousands of short commands leave nothing open, and each gives its own answer.
func TestManyExecs(t *testing.T) {
	c := shared(t)
	p := c.startPod(pod("box", ""))
	run := func(ctx context.Context, i int) error {
		var out bytes.Buffer
		err := c.executor("box", "sh", "-c", fmt.Sprintf("echo %d; exit %d", i, i%3)).StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: &out, Stderr: io.Discard})
		code := 0
		if exit := new(remoteExit); errors.As(err, exit) {
			code, err = (*exit).ExitStatus(), nil
		}
		if err != nil || out.String() != fmt.Sprintf("%d\n", i) || code != i%3 {
			return fmt.Errorf("command %d: %q, exit %d, %w", i, out.String(), code, err)
		}
		return nil
	}
	if err := run(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	before := c.openInShim(p)
	g, ctx := errgroup.WithContext(t.Context())
	g.SetLimit(8)
	for i := range bySpeed(100, 3000) {
		g.Go(func() error { return run(ctx, i) })
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	c.retry(func() error {
		if after := c.openInShim(p); after > before {
			return fmt.Errorf("the shim has %d files open, and had %d", after, before)
		}
		return nil
	})
	running, err := c.processesOf(c.bystander("box"))
	if err != nil || running != 1 {
		t.Errorf("%d processes are in the container, %v", running, err)
	}
}

// remoteExit is how a command's exit code comes.
type remoteExit = interface {
	error
	ExitStatus() int
}

// openInShim counts the open files of the Pod's shim.
func (c *cluster) openInShim(p *corev1.Pod) (n int) {
	c.t.Helper()
	err := eachProcess(func(pid int) {
		exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)) // gone, or the kernel's
		cwd, _ := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
		if strings.HasPrefix(exe, c.host.DataDir+"/") && filepath.Base(exe) == "skiff-shim" && filepath.Base(cwd) == string(p.UID) {
			open, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
			n = len(open)
		}
	})
	if err != nil || n == 0 {
		c.t.Fatalf("the Pod has no shim: %v", err)
	}
	return n
}

// processesOf counts the processes in a container's cgroup.
func (c *cluster) processesOf(first task) (int, error) {
	own, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", first.PID))
	if err != nil {
		return 0, err
	}
	n := 0
	err = eachProcess(func(pid int) {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid)) // may be gone
		if bytes.Equal(text, own) {
			n++
		}
	})
	return n, err
}
