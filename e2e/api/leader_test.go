package api

import (
	"context"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// candidate runs for leader until its context ends; the channel tells when it
// leads and is closed when it stops.
func candidate(ctx context.Context, t *testing.T, p *plane, id string) <-chan string {
	t.Helper()
	events := make(chan string, 10)
	elector := must(leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: "kube-system", Name: "election"},
			Client:     p.client().CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: id},
		},
		LeaseDuration: 6 * time.Second, RenewDeadline: 4 * time.Second, RetryPeriod: 200 * time.Millisecond,
		ReleaseOnCancel: true,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(context.Context) { events <- "leads" },
			OnStoppedLeading: func() { events <- "stopped" },
		},
	}))(t)
	go func() {
		defer close(events)
		elector.Run(ctx)
	}()
	return events
}

func await(t *testing.T, events <-chan string, want string) {
	t.Helper()
	select {
	case got := <-events:
		if got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	case <-time.After(patience):
		t.Fatalf("%q never came", want)
	}
}

// A server's crash neither loses nor gives back leadership: renewals are lazy
// writes, changes of the holder are not.
func TestLeaderElectionThroughCrash(t *testing.T) {
	p := start(t, nil)
	holder := func() string {
		t.Helper()
		lease := must(p.client().CoordinationV1().Leases("kube-system").Get(t.Context(), "election", metav1.GetOptions{}))(t)
		return *lease.Spec.HolderIdentity
	}
	ctxA, stopA := context.WithCancel(t.Context())
	a := candidate(ctxA, t, p, "a")
	await(t, a, "leads")
	ctxB, stopB := context.WithCancel(t.Context())
	defer stopB()
	b := candidate(ctxB, t, p, "b")

	p.crash()
	if got := holder(); got != "a" {
		t.Fatalf("after the crash %q holds the lease, want a", got)
	}
	stopA()
	await(t, a, "stopped")
	await(t, b, "leads")
	p.crash()
	if got := holder(); got != "b" {
		t.Fatalf("after the second crash %q holds the lease, want b", got)
	}
	stopB()
	await(t, b, "stopped")
	for range a {
		t.Error("a led again")
	}
}
