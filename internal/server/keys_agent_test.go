package server

import (
	"context"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/join"
	"github.com/skiff-sh/skiff/internal/pki"
)

// member is an agent's membership, kept up as agents do.
type member struct {
	*join.Membership
	clock pki.Clock
}

// join makes a member of a machine whose clock is off by so much.
func (a *aging) join(ctx context.Context, off time.Duration) *member {
	a.Helper()
	past, err := pki.OpenPast(filepath.Join(a.TempDir(), "clock"))
	if err != nil {
		a.Fatal(err)
	}
	m := &member{clock: pki.Clock{
		Now: func() time.Time { return time.Now().Add(off) }, Build: time.Now().Add(-month), Past: past,
	}}
	at := []netip.Addr{netip.MustParseAddr("192.0.2.77")}
	m.Membership, err = join.Join(ctx, join.Config{
		Host: config.NewHost(a.TempDir()), NodeName: "far", Addresses: at,
		Servers: []string{a.localURL()}, Token: a.keys.token.Text(), Clock: m.clock, Log: zap.NewNop(),
	})
	if err != nil {
		a.Fatal(err)
	}
	var group errgroup.Group
	ctx, end := context.WithCancel(ctx)
	group.Go(func() error { return m.KeepClient(ctx) })
	group.Go(func() error { return m.KeepServing(ctx, func() []netip.Addr { return at }, nil) })
	a.Cleanup(func() {
		end()
		if err := group.Wait(); err != nil {
			a.Error(err)
		}
	})
	return m
}

// hear has a member hear the server's time, as the Date of an answer tells it
// where no test sets the clock, and waits until its certificates are others.
func (m *member) hear(ctx context.Context, t *testing.T, now time.Time) {
	t.Helper()
	_, client := m.Client.Watch()
	_, serving := m.Serving.Watch()
	m.clock.Past.Hear(now, now.Add(month))
	for what, changed := range map[string]<-chan struct{}{"client": client, "serving": serving} {
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("the agent's %s certificate is not renewed", what)
		}
	}
}

// An agent whose clock is years off joins and stays: its certificates are renewed
// by the time that it hears, and what is open stays open.
func TestAgentsCertificatesAreRenewedWhileInUse(t *testing.T) {
	for name, off := range map[string]time.Duration{"two years behind": -24 * month, "right": 0, "two years ahead": 24 * month} {
		t.Run(name, func(t *testing.T) {
			a := newAging(t)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			controllers := a.control()
			defer controllers()
			m := a.join(ctx, off)
			admin := a.client(a.keys.admin)
			open, err := m.API().CoreV1().Services("default").Watch(ctx, metav1.ListOptions{
				TimeoutSeconds: new(int64(3600)), ResourceVersion: "0", LabelSelector: "seen=yes",
			})
			if err != nil {
				t.Fatal(err)
			}
			defer open.Stop()
			see := func(name string) {
				t.Helper()
				service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"seen": "yes"}}}
				service.Spec.Ports = []corev1.ServicePort{{Port: 80}}
				if _, err := admin.CoreV1().Services("default").Create(ctx, service, metav1.CreateOptions{}); err != nil {
					t.Fatal(err)
				}
				select {
				case e, ok := <-open.ResultChan():
					if got, is := e.Object.(*corev1.Service); !ok || !is || e.Type != watch.Added || got.Name != name {
						t.Fatalf("the watch brings %+v (open: %t) instead of %s", e, ok, name)
					}
				case <-ctx.Done():
					t.Fatalf("the watch does not bring %s", name)
				}
			}
			see("at-first")
			first := m.Client.Pair().Certificate
			for _, round := range []string{"renewed", "renewed-again"} {
				a.await(ctx, 9*month)
				m.hear(ctx, t, a.clock.Now())
				see(round)
			}
			if left := first.NotAfter.Sub(a.clock.Now()); left > 0 {
				t.Fatalf("the first certificate has %s left", left)
			}
			if _, err := m.API().CoreV1().Services("default").Get(ctx, "renewed", metav1.GetOptions{}); err != nil {
				t.Errorf("with the new certificate: %v", err)
			}
			see("the-first-has-ended")
		})
	}
}

// control runs the controllers until the function it returns is called.
func (a *aging) control() (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	group := errgroup.Group{}
	for _, c := range a.controllers() {
		group.Go(func() error { return c.Run(ctx, a.env) })
	}
	return func() {
		cancel()
		if err := group.Wait(); err != nil {
			a.Error(err)
		}
	}
}
