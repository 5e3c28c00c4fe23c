package controller_test

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/kind"
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

// clock is the machine's: time in a bubble stands still while work is done.
func clock() time.Time {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t)
	return time.Unix(t.Unix())
}
