package agent

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

func rule(action corev1.ContainerRestartRuleAction, operator corev1.ContainerRestartRuleOnExitCodesOperator, codes ...int32) corev1.ContainerRestartRule {
	return corev1.ContainerRestartRule{Action: action, ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{Operator: operator, Values: codes}}
}

const (
	again    = corev1.ContainerRestartRuleActionRestart
	againAll = corev1.ContainerRestartRuleActionRestartAllContainers
	in       = corev1.ContainerRestartRuleOnExitCodesOpIn
	notIn    = corev1.ContainerRestartRuleOnExitCodesOpNotIn
)

func TestRestartRules(t *testing.T) {
	never, onFailure, always := corev1.ContainerRestartPolicyNever, corev1.ContainerRestartPolicyOnFailure, corev1.ContainerRestartPolicyAlways
	for name, c := range map[string]struct {
		pod    corev1.RestartPolicy
		own    *corev1.ContainerRestartPolicy
		rules  []corev1.ContainerRestartRule
		init   bool
		code   int
		starts bool
	}{
		"the Pod's always":            {pod: "Always", code: 0, starts: true},
		"own never over it":           {pod: "Always", own: &never, code: 1},
		"own on failure, failed":      {pod: "Never", own: &onFailure, code: 1, starts: true},
		"own on failure, done":        {pod: "Always", own: &onFailure, code: 0},
		"own always":                  {pod: "Never", own: &always, code: 0, starts: true},
		"rule over own":               {pod: "Never", own: &never, rules: []corev1.ContainerRestartRule{rule(again, in, 41, 42)}, code: 42, starts: true},
		"no rule matches":             {pod: "Always", own: &never, rules: []corev1.ContainerRestartRule{rule(again, in, 42)}, code: 1},
		"all but":                     {pod: "Never", own: &never, rules: []corev1.ContainerRestartRule{rule(again, notIn, 42)}, code: 0, starts: true},
		"all but this":                {pod: "Never", own: &never, rules: []corev1.ContainerRestartRule{rule(again, notIn, 42)}, code: 42},
		"all restart":                 {pod: "Never", own: &never, rules: []corev1.ContainerRestartRule{rule(againAll, in, 3)}, code: 3, starts: true},
		"init done under always":      {pod: "Always", init: true, code: 0},
		"init failed under always":    {pod: "Always", init: true, code: 1, starts: true},
		"init failed under own never": {pod: "Always", own: &never, init: true, code: 1},
		"init failed with a rule":     {pod: "Never", own: &never, rules: []corev1.ContainerRestartRule{rule(again, in, 1)}, init: true, code: 1, starts: true},
		"a sidecar always":            {pod: "Never", own: &always, init: true, code: 0, starts: true},
	} {
		t.Run(name, func(t *testing.T) {
			container := &corev1.Container{RestartPolicy: c.own, RestartPolicyRules: c.rules}
			pod := webPod(func(p *corev1.Pod) { p.Spec.RestartPolicy = c.pod })
			if got := shouldRestart(pod, container, c.init, c.code); got != c.starts {
				t.Errorf("starts again: %t, want %t", got, c.starts)
			}
		})
	}
}

// A container that ends by a rule takes all others along, and the Pod begins with its
// init containers again, whatever its policy and without waiting.
func TestAllContainersRestart(t *testing.T) {
	onBench(t, func(t *testing.T, b *bench) {
		never := corev1.ContainerRestartPolicyNever
		b.create(webPod(func(p *corev1.Pod) {
			p.Spec.RestartPolicy = corev1.RestartPolicyNever
			p.Spec.InitContainers = []corev1.Container{{Name: "init", Image: "hello:1"}}
			p.Spec.Containers[0].RestartPolicy = &never
			p.Spec.Containers[0].RestartPolicyRules = []corev1.ContainerRestartRule{rule(againAll, in, 42)}
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "d", Image: "hello:1"})
		}))
		pass(time.Second)
		b.runtime.exit(t, "init", 0)
		pass(time.Second)
		if got := condition(b.pod(), corev1.AllContainersRestarting); got != "False  " {
			t.Errorf("condition is %q", got)
		}
		b.runtime.taken()
		b.runtime.exit(t, "c", 42)
		pass(time.Second)
		if calls := strings.Join(b.runtime.taken(), ", "); !strings.HasPrefix(calls, "kill d/0 15, ") || !strings.HasSuffix(calls, "create init/1, start init/1") {
			t.Errorf("the calls are %s", calls)
		}
		b.wantEvent("Killing killing")
		pod := b.pod()
		if got := condition(pod, corev1.PodInitialized); pod.Status.Phase != corev1.PodPending || got != "True  " {
			t.Errorf("phase %s, Initialized %s", pod.Status.Phase, got)
		}
		// Another run of the agent goes on where this one was.
		b.stop()
		b.start()
		b.runtime.exit(t, "init", 0)
		pass(time.Second)
		b.wantCalls("create c/1", "start c/1", "create d/1", "start d/1")
		pod = b.pod()
		for _, s := range append(pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses...) {
			if l := s.LastTerminationState.Terminated; s.RestartCount != 1 || l == nil || l.Reason != "RestartingAllContainers" || l.ExitCode != 137 {
				t.Errorf("status of %s is %+v", s.Name, s)
			}
		}
		if pod.Status.Phase != corev1.PodRunning || condition(pod, corev1.AllContainersRestarting) != "False  " {
			t.Errorf("status is %+v", pod.Status)
		}
		// Without a rule that matches it is over.
		b.runtime.exit(t, "c", 1)
		b.runtime.exit(t, "d", 0)
		pass(time.Second)
		if pod := b.pod(); pod.Status.Phase != corev1.PodFailed || condition(pod, corev1.AllContainersRestarting) != "False PodFailed " {
			t.Errorf("at the end: %+v", pod.Status)
		}
	})
}
