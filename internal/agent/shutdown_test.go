package agent

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/config"
)

func TestShutdownGroups(t *testing.T) {
	groups := []config.ShutdownGroup{{Priority: -5}, {Priority: 0}, {Priority: 1000}}
	var pods []*corev1.Pod
	for _, priority := range []int32{-10, -5, -1, 0, 999, 1000, 2_000_000_000} {
		pods = append(pods, webPod(func(p *corev1.Pod) { p.Spec.Priority = &priority }))
	}
	var got []string
	for _, g := range shutdownGroups(groups, append(pods, webPod())) {
		var all []string
		for _, p := range g.Pods {
			all = append(all, fmt.Sprint(priorityOf(p)))
		}
		got = append(got, strings.Join(all, " "))
	}
	if want := []string{"-10 -5 -1", "0 999 0", "1000 2000000000"}; !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

func TestShutdownGrace(t *testing.T) {
	for _, tt := range []struct {
		own  *int64
		all  time.Duration
		want int64
	}{{nil, 20 * time.Second, 20}, {new(int64(5)), 20 * time.Second, 5}, {new(int64(30)), 20 * time.Second, 20}, {new(int64(30)), 0, 1}} {
		pod := webPod(func(p *corev1.Pod) { p.Spec.TerminationGracePeriodSeconds = tt.own })
		if got := shutdownGrace(pod, tt.all); got != tt.want {
			t.Errorf("%v of %s: %d", tt.own, tt.all, got)
		}
	}
}

// A machine that goes down waits for its Pods, the critical ones last; one that does
// not after all takes Pods again.
func TestShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.kubelet = config.DefaultKubelet()
		b.kubelet.Shutdown = config.Shutdown{Grace: 30 * time.Second, Critical: 10 * time.Second}
		power, waited := make(chan bool), time.Duration(0)
		b.shutdowns = func(ctx context.Context, wait time.Duration, changed func(bool)) error {
			if wait != 30*time.Second {
				t.Errorf("the machine is to wait for %s", wait)
			}
			for {
				select {
				case <-ctx.Done():
					return nil
				case goes := <-power:
					begun := time.Now()
					changed(goes)
					waited = time.Since(begun)
				}
			}
		}
		stubborn := true
		b.runtime.onSignal = func(name string, _ int) bool { return !stubborn }
		b.start()
		defer func() { b.stop() }()
		b.create(webPod(func(p *corev1.Pod) { p.Name, p.UID, p.Spec.Containers[0].Name = "plain", "plain", "plain" }))
		b.create(webPod(func(p *corev1.Pod) {
			p.Name, p.UID, p.Spec.Priority, p.Spec.Containers[0].Name = "critical", "critical", new(int32(systemCritical)), "critical"
		}))
		pass(time.Second)
		b.runtime.taken()
		power <- true
		pass(time.Second)
		b.wantCalls("kill plain/0 15")
		b.wantEvent("NodeShutdown Shutdown manager detected shutdown event")
		if c := readiness(b.node()); c != "False KubeletNotReady node is shutting down" {
			t.Errorf("the node is ready: %s", c)
		}
		b.create(webPod(func(p *corev1.Pod) { p.Name, p.UID = "late", "late" }))
		pass(20 * time.Second)
		calls := b.runtime.taken()
		slices.Sort(calls)
		if got := strings.Join(calls, ", "); got != "kill critical/0 15, kill plain/0 9, remove plain/0" {
			t.Errorf("then came %s", got)
		}
		stubborn = false
		pass(15 * time.Second)
		if waited < 29*time.Second || waited > 33*time.Second {
			t.Errorf("the machine waited for %s", waited)
		}
		for name, want := range map[string]string{
			"plain":    "Failed Terminated Pod was terminated in response to imminent node shutdown. True TerminationByKubelet",
			"critical": "Failed Terminated Pod was terminated in response to imminent node shutdown. True TerminationByKubelet",
			"late":     "Failed NodeShutdown Pod was rejected: Pod was rejected as the node is shutting down. none",
		} {
			p := b.podOf(name)
			disrupted, _, _ := strings.Cut(condition(p, corev1.DisruptionTarget), " Pod was")
			if got := fmt.Sprint(p.Status.Phase, " ", p.Status.Reason, " ", p.Status.Message, " ", disrupted); got != want {
				t.Errorf("%s is %q", name, got)
			}
		}
		power <- false
		pass(time.Second)
		b.wantEvent("NodeShutdown Shutdown manager detected shutdown cancellation")
		if c := readiness(b.node()); !strings.HasPrefix(c, "True") {
			t.Errorf("the node is not ready: %s", c)
		}
	})
}

func (b *bench) podOf(name string) *corev1.Pod {
	b.Helper()
	pod, err := b.client.CoreV1().Pods("default").Get(context.Background(), name, metav1.GetOptions{})
	if err != nil {
		b.Fatal(err)
	}
	return pod
}

func readiness(node *corev1.Node) string {
	i := slices.IndexFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type == corev1.NodeReady })
	if i < 0 {
		return "none"
	}
	c := node.Status.Conditions[i]
	return fmt.Sprint(c.Status, " ", c.Reason, " ", c.Message)
}
