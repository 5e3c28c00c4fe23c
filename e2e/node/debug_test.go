package node

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/skiff-sh/skiff/e2e/box"
)

// debugState is the state of the Pod's ephemeral container of that name.
func debugState(p *corev1.Pod, name string) corev1.ContainerState {
	for _, s := range p.Status.EphemeralContainerStatuses {
		if s.Name == name {
			return s.State
		}
	}
	return corev1.ContainerState{}
}

func TestDebug(t *testing.T) {
	t.Parallel()
	c := ownCluster(t)
	c.startPod(pod("web", ""))
	debug := func(name string, args ...string) {
		t.Helper()
		c.kubectl(append([]string{"debug", "web", "--image=" + box.Image, "--image-pull-policy=IfNotPresent", "--container=" + name}, args...)...)
	}

	// One looks at its target's processes from within.
	debug("look", "--target=main", "--", "sh", "-c", "ps -o pid,args; sleep 1000")
	c.awaitPod("web", func(p *corev1.Pod) bool { return debugState(p, "look").Running != nil })
	c.awaitEvent("web", "Started", "Container started")
	c.retry(func() error {
		if log := c.kubectl("logs", "web", "-c", "look"); !strings.Contains(log, "1 box serve") || !strings.Contains(log, "ps -o pid,args") {
			return fmt.Errorf("it sees %q", log)
		}
		return nil
	})
	c.mustContain(c.kubectl("exec", "web", "-c", "look", "--", "cat", "/proc/1/root/etc/hostname"), "web")

	// One that is talked to.
	out, err := c.tryWith(strings.NewReader("echo from-$HOSTNAME; exit 3\n"),
		"debug", "web", "-i", "--image="+box.Image, "--image-pull-policy=IfNotPresent", "--container=talk", "--", "sh")
	c.mustContain(out, "from-web")
	p := c.awaitPod("web", func(p *corev1.Pod) bool { return debugState(p, "talk").Terminated != nil })
	if ended := debugState(p, "talk").Terminated; ended.ExitCode != 3 || ended.Reason != "Error" || !podReady(p) {
		t.Errorf("ended with %+v (%v); Ready: %t", ended, err, podReady(p))
	}

	// Neither runs again after skiff was killed, and the one that runs goes on.
	before, err := c.running()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := c.start(); err != nil {
		t.Fatal(err)
	}
	debug("after", "--", "true")
	c.awaitPod("web", func(p *corev1.Pod) bool { return debugState(p, "after").Terminated != nil })
	after, err := c.running()
	if err != nil {
		t.Fatal(err)
	}
	if err := same(before, after); err != nil {
		t.Error(err)
	}
	c.mustContain(c.kubectl("logs", "web", "-c", "talk"), "from-web")
	c.kubectl("delete", "pod", "web")
}

// The containers of a Pod see each other's processes, what is left behind is reaped,
// and process 1 can be neither ended nor used to look at the machine.
func TestSharedProcesses(t *testing.T) {
	c := shared(t)
	p := pod("pair", "trap exit TERM; while true; do sleep 0.1; done")
	p.Spec.ShareProcessNamespace = ptr(true)
	p.Spec.Containers = append(p.Spec.Containers, corev1.Container{
		Name: "other", Image: box.Image, Command: []string{"sleep", "12345"},
		SecurityContext: &corev1.SecurityContext{Capabilities: &corev1.Capabilities{Add: []corev1.Capability{"SYS_PTRACE", "SYS_ADMIN"}}},
	})
	c.startPod(p)
	c.mustContain(c.exec("pair", "ps -o pid,args"), "1 /pause", "sleep 12345")
	look := func(script string) string { return c.kubectl("exec", "pair", "-c", "other", "--", "sh", "-c", script) }
	if got := look("ls /proc/1/root"); got != "pause\n" {
		t.Errorf("process 1 sees %q", got)
	}
	c.mustContain(look("(: >>/proc/1/exe) 2>&1; (: >/proc/1/root/x) 2>&1; true"), "exe: ", "/proc/1/root/x: Read-only file system")
	c.mustContain(look("cat /proc/1/status"), "Uid:\t65535\t65535\t65535\t65535", "CapPrm:\t0000000000000000", "NoNewPrivs:\t1")
	if got := look("ls /proc/1/fd"); got != "3\n" {
		t.Errorf("process 1 has the descriptors %q", got)
	}
	look("kill -TERM 1; kill -KILL 1; kill -HUP 1; true")

	// A process whose parent has gone is reaped by process 1.
	c.exec("pair", "(sleep 0.1 </dev/null >/dev/null 2>&1 &)")
	c.retry(func() error {
		if out := c.exec("pair", "ps -o stat,args"); strings.Contains(out, "Z") {
			return fmt.Errorf("not reaped: %s", out)
		}
		return nil
	})
	// A container that ends takes all of its processes along, and no others.
	look("sleep 777 </dev/null >/dev/null 2>&1 &")
	c.mustContain(c.exec("pair", "ps -o args"), "sleep 777")
	c.exec("pair", "for p in /proc/[0-9]*; do grep -q '[1]2345' $p/cmdline && kill ${p#/proc/}; done; true")
	p = c.awaitPod("pair", func(p *corev1.Pod) bool {
		for _, s := range p.Status.ContainerStatuses {
			if s.Name == "other" && s.RestartCount > 0 && s.State.Running != nil {
				return true
			}
		}
		return false
	})
	if out := c.exec("pair", "ps -o args"); strings.Contains(out, "sleep 777") {
		t.Errorf("processes of an ended container are left: %s", out)
	}
	for _, s := range p.Status.ContainerStatuses {
		if s.Name == "main" && s.RestartCount != 0 {
			t.Error("the other container restarted too")
		}
	}
	begin := time.Now()
	c.kubectl("delete", "pod", "pair", "--grace-period=30")
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("deletion took %v", took)
	}
}
