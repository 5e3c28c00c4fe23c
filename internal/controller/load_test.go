package controller_test

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
)

// A Deployment of many Pods, made, rolled out and deleted: what each costs
// must not grow with all the others.
func TestManyPods(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	inPlane(t, func(p *plane) {
		for _, name := range []string{"a", "b", "c"} {
			p.machine(name)
		}
		const replicas = 400
		start := clock()
		p.create(newDeployment(replicas))
		equal(p, "available", web(p).Status.AvailableReplicas, replicas)
		t.Logf("made in %v", clock().Sub(start))
		start = clock()
		setImage(p, "good:2")
		equal(p, "sizes", sizes(p), "good:2=400")
		t.Logf("rolled out in %v", clock().Sub(start))
		start = clock()
		p.delete(kind.Deployment, "web", metav1.DeletePropagationForeground)
		p.pass(time.Second)
		equal(p, "Pods left", len(p.names(kind.Pod)), 0)
		t.Logf("deleted in %v", clock().Sub(start))
	})
}

// Rings so small that everybody falls behind all the time delay things; nothing
// is lost, not even what was deleted meanwhile.
func TestEverybodyFallsBehind(t *testing.T) {
	inPlaneWith(t, plane{ring: state.Ring{Events: 2}}, func(p *plane) {
		p.machine("a")
		p.create(&corev1.Service{ObjectMeta: object("web"), Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": "web"}, Ports: []corev1.ServicePort{{Port: 80}},
		}})
		p.create(newDeployment(40))
		p.pass(time.Minute)
		setImage(p, "good:2")
		p.pass(time.Minute)
		now := int64(0)
		_, err := p.env.API.DeleteCollection(p.ctx, p.to(kind.Pod, ""), metav1.ListOptions{}, metav1.DeleteOptions{GracePeriodSeconds: &now})
		p.must(err)
		p.pass(time.Minute)
		equal(p, "sizes", sizes(p), "good:2=40")
		equal(p, "available", web(p).Status.AvailableReplicas, 40)
		equal(p, "endpoints", strings.Count(endpoints(p, "web"), ":ready"), 40)
		p.delete(kind.Deployment, "web", metav1.DeletePropagationBackground)
		p.pass(time.Minute)
		equal(p, "Pods left", len(p.names(kind.Pod)), 0)
		equal(p, "ReplicaSets left", len(p.names(kind.ReplicaSet)), 0)
		for _, message := range []string{"controller fell behind and starts over", "scheduler fell behind and starts over"} {
			if p.log.FilterMessage(message).Len() == 0 {
				t.Errorf("nobody said %q: the test shows nothing", message)
			}
		}
	})
}

// clock is the machine's: time in a bubble stands still while work is done.
func clock() time.Time {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t)
	return time.Unix(t.Unix())
}
