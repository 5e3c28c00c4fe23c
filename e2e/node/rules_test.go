package node

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/skiff-sh/skiff/e2e/box"
)

func exitRule(action corev1.ContainerRestartRuleAction, code int32) []corev1.ContainerRestartRule {
	return []corev1.ContainerRestartRule{{Action: action, ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{
		Operator: corev1.ContainerRestartRuleOnExitCodesOpIn, Values: []int32{code},
	}}}
}

// A container that is never restarted is for one exit code.
func TestRestartRule(t *testing.T) {
	c := shared(t)
	p := once("rule", "echo run >>/memory/runs; test $(wc -l </memory/runs) -ge 3 && exit 1; exit 42")
	p.Spec.Containers[0].RestartPolicy = ptr(corev1.ContainerRestartPolicyNever)
	p.Spec.Containers[0].RestartPolicyRules = exitRule(corev1.ContainerRestartRuleActionRestart, 42)
	mounted(p, "memory", corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}})
	p, _ = c.finish(p)
	if s := mainStatus(p); s.RestartCount != 2 || s.State.Terminated == nil || s.State.Terminated.ExitCode != 1 || p.Status.Phase != corev1.PodFailed {
		t.Errorf("phase %s, status %+v", p.Status.Phase, s)
	}
}

// A container that ends with one exit code makes all of its Pod begin anew, in the same
// sandbox: address and volumes stay.
func TestRestartAllContainers(t *testing.T) {
	c := shared(t)
	p := once("all", "test -e /memory/again && exec sleep 1000; touch /memory/again; until test -e /memory/go; do sleep 0.1; done; exit 42")
	p.Spec.Containers[0].RestartPolicy = ptr(corev1.ContainerRestartPolicyNever)
	p.Spec.Containers[0].RestartPolicyRules = exitRule(corev1.ContainerRestartRuleActionRestartAllContainers, 42)
	mounted(p, "memory", corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}})
	mounts := p.Spec.Containers[0].VolumeMounts
	p.Spec.InitContainers = []corev1.Container{{Name: "init", Image: box.Image, Command: []string{"sh", "-c", "echo init >>/memory/inits"}, VolumeMounts: mounts}}
	p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "other", Image: box.Image, Command: []string{"sleep", "1000"}, VolumeMounts: mounts})
	before := c.startPod(p)
	c.kubectl("exec", "all", "-c", "other", "--", "touch", "/memory/go")
	after := c.awaitPod("all", func(p *corev1.Pod) bool {
		for _, s := range append(p.Status.InitContainerStatuses, p.Status.ContainerStatuses...) {
			if l := s.LastTerminationState.Terminated; s.RestartCount != 1 || l == nil || l.Reason != "RestartingAllContainers" {
				return false
			}
		}
		return podReady(p) && podCondition(p, corev1.AllContainersRestarting) == corev1.ConditionFalse
	})
	if before.Status.PodIP != after.Status.PodIP {
		t.Errorf("the address was %s and is %s", before.Status.PodIP, after.Status.PodIP)
	}
	if got := c.kubectl("exec", "all", "-c", "main", "--", "cat", "/memory/inits"); got != "init\ninit\n" {
		t.Errorf("init containers ran: %q", got)
	}
}
