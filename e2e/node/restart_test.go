package node

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/skiff-sh/skiff/e2e/box"
)

// kills is how often the server dies in the midst of a rollout, and half of these times
// again when it starts.
func kills() int { return bySpeed(10, 20) }

// quiesce waits until what is there is what the API says is there.
func (c *cluster) quiesce() said {
	c.t.Helper()
	var s said
	c.retry(func() error {
		var err error
		if s, err = c.said(c.ctx); err != nil {
			return err
		}
		v, err := c.take()
		if err != nil {
			return err
		}
		return v.compare(s)
	})
	return s
}

// bystanders are the processes of the Pods of one app, by container.
func (c *cluster) bystanders(app string) map[string]task {
	c.t.Helper()
	all, err := c.running()
	if err != nil {
		c.t.Fatal(err)
	}
	s, err := c.said(c.ctx)
	if err != nil {
		c.t.Fatal(err)
	}
	found := map[string]task{}
	for id, name := range s.containers {
		if strings.HasPrefix(name, app+"-") {
			found[name+" "+id] = all[id]
		}
	}
	return found
}

// bystander is the process of a Pod of one container.
func (c *cluster) bystander(name string) task {
	c.t.Helper()
	id := strings.TrimPrefix(mainStatus(c.awaitPod(name, podReady)).ContainerID, "containerd://")
	all, err := c.running()
	if err != nil {
		c.t.Fatal(err)
	}
	return all[id]
}

func same(before, after map[string]task) error {
	for name, p := range before {
		if after[name] != p {
			return fmt.Errorf("%s was %+v and is %+v", name, p, after[name])
		}
	}
	if len(before) != len(after) {
		return fmt.Errorf("%d were there, %d are: %v", len(before), len(after), after)
	}
	return nil
}

// moving is a Deployment of Pods with all that can be left behind.
func moving(version string) string {
	return deployment("moving", version, 3) + `
      - name: second
        image: ` + box.Image + `
        command: [sh, -c, "trap exit TERM; while true; do sleep 0.1; done"]
        volumeMounts: [{name: memory, mountPath: /memory}]
      initContainers:
      - {name: first, image: ` + box.Image + `, command: [sleep, "0.1"]}
      volumes:
      - {name: memory, emptyDir: {medium: Memory}}
`
}

// A server that dies again and again while it rolls out neither touches Pods
// that do not change nor loses or doubles any that do.
func TestKilledDuringRollout(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("SKIFF_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("seed %d: SKIFF_SEED repeats it", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	c := ownCluster(t)
	c.apply(deployment("still", "1", 2))
	c.apply(moving("0"))
	for _, name := range []string{"still", "moving"} {
		c.kubectl("rollout", "status", "deployment/"+name, "--timeout=60s")
	}
	c.quiesce()
	before := c.bystanders("still")
	if len(before) != 2 {
		t.Fatalf("%d bystanders: %v", len(before), before)
	}

	for i := range kills() {
		c.apply(moving(strconv.Itoa(i + 1)))
		delay := time.Duration(random.Int64N(int64(2500 * time.Millisecond)))
		timer := time.NewTimer(delay) // the random point; nothing is waited for
		<-timer.C
		if _, err := c.signal(unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if err := c.same(before); err != nil {
			t.Errorf("kill %d after %v, with the server dead: %v", i, delay, err)
		}
		if i%2 == 1 { // and again while it starts
			if err := c.launch(); err != nil {
				t.Fatal(err)
			}
			timer.Reset(time.Duration(random.Int64N(int64(400 * time.Millisecond))))
			<-timer.C
			if _, err := c.signal(unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.start(); err != nil {
			t.Fatalf("start after kill %d: %v", i, err)
		}
	}
	c.awaitDeployment("moving", func(d *appsv1.Deployment) bool {
		s := d.Status
		return s.ObservedGeneration == d.Generation && s.UpdatedReplicas == 3 && s.Replicas == 3 && s.AvailableReplicas == 3
	})
	s := c.quiesce()
	if len(s.pods) != 5 || len(s.containers) != 8 {
		t.Errorf("%d Pods and %d containers, want 5 and 8: %v", len(s.pods), len(s.containers), s)
	}
	if err := same(before, c.bystanders("still")); err != nil {
		t.Error(err)
	}
	for _, version := range c.versions("moving") {
		if version != strconv.Itoa(kills()) {
			t.Errorf("version %s runs at the end", version)
		}
	}
	c.apply(`{apiVersion: v1, kind: Service, metadata: {name: moving}, spec: {selector: {app: moving}, ports: [{port: 80, targetPort: 8080}]}}`)
	c.mustContain(c.awaitPage("http://"+c.service("moving").Spec.ClusterIP), "moving-")
}

// same compares without asking the server.
func (c *cluster) same(before map[string]task) error {
	all, err := c.running()
	if err != nil {
		return err
	}
	for name, p := range before {
		_, id, _ := strings.Cut(name, " ")
		if all[id] != p {
			return fmt.Errorf("%s was %+v and is %+v", name, p, all[id])
		}
	}
	return nil
}

func TestStopLeavesPodsRunning(t *testing.T) {
	t.Parallel()
	c := ownCluster(t)
	c.apply(deployment("web", "1", 2))
	c.kubectl("expose", "deployment", "web", "--port=80", "--target-port=8080")
	c.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
	c.create(pod("short", "trap 'exit 9' TERM; echo begun; while true; do sleep 0.1; done"))
	c.awaitPod("short", podReady)
	url := "http://" + c.service("web").Spec.ClusterIP
	c.awaitPage(url)
	c.quiesce()
	before, short := c.bystanders("web"), c.bystander("short")

	took, err := c.signal(unix.SIGTERM)
	t.Logf("SIGTERM to end: %v", took)
	if err != nil || took > 5*time.Second {
		t.Errorf("server ended after %v: %v", took, err)
	}
	if err := c.same(before); err != nil {
		t.Errorf("with the server stopped: %v", err)
	}
	if body, err := page(c.httpClient(), url); err != nil || !strings.HasPrefix(body, "web-") {
		t.Errorf("with the server stopped, the Service answers %q, %v", body, err)
	}
	t.Log("a container that ends meanwhile is restarted when the server is back")
	if err := unix.Kill(short.PID, unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := c.start(); err != nil {
		t.Fatal(err)
	}
	t.Logf("Ready again after %v", time.Since(begin))
	p := c.awaitPod("short", func(p *corev1.Pod) bool { return mainStatus(p).RestartCount == 1 && podReady(p) })
	if ended := mainStatus(p).LastTerminationState.Terminated; ended == nil || ended.ExitCode != 9 {
		t.Errorf("last state %+v, want exit code 9", mainStatus(p).LastTerminationState)
	}
	if log := c.kubectl("logs", "short", "--previous"); log != "begun\n" {
		t.Errorf("previous log %q", log)
	}
	c.quiesce()
	if err := same(before, c.bystanders("web")); err != nil {
		t.Error(err)
	}
}

// What ends without skiff's doing comes back, once.
func TestProcessesKilled(t *testing.T) {
	t.Parallel()
	c := ownCluster(t)
	c.startPod(pod("web", ""))
	c.quiesce()
	restarted := func(times int32) *corev1.Pod {
		t.Helper()
		p := c.awaitPod("web", func(p *corev1.Pod) bool { return mainStatus(p).RestartCount == times && podReady(p) })
		c.quiesce()
		return p
	}
	if err := unix.Kill(c.bystander("web").PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	p := restarted(1)
	if ended := mainStatus(p).LastTerminationState.Terminated; ended.ExitCode != 137 || ended.Reason != "Error" {
		t.Errorf("killed from outside: %+v", ended)
	}

	t.Log("a shim's end is its containers' end")
	old := c.bystander("web")
	if err := eachProcess(func(pid int) {
		exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		if strings.HasPrefix(exe, c.host.DataDir) && strings.HasSuffix(exe, "/skiff-shim") {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}); err != nil {
		t.Fatal(err)
	}
	restarted(2)
	if now := c.bystander("web"); now == old {
		t.Error("the old process still runs")
	}
}
