package controller_test

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/admission"
	"github.com/skiff-sh/skiff/internal/api"
	"github.com/skiff-sh/skiff/internal/auth"
	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/controller"
	"github.com/skiff-sh/skiff/internal/controller/bootstrap"
	"github.com/skiff-sh/skiff/internal/controller/certificate"
	"github.com/skiff-sh/skiff/internal/controller/deployment"
	"github.com/skiff-sh/skiff/internal/controller/endpointslice"
	"github.com/skiff-sh/skiff/internal/controller/eventttl"
	"github.com/skiff-sh/skiff/internal/controller/garbage"
	"github.com/skiff-sh/skiff/internal/controller/namespace"
	"github.com/skiff-sh/skiff/internal/controller/nodeipam"
	"github.com/skiff-sh/skiff/internal/controller/nodelifecycle"
	"github.com/skiff-sh/skiff/internal/controller/podgc"
	"github.com/skiff-sh/skiff/internal/controller/replicaset"
	"github.com/skiff-sh/skiff/internal/controller/rootca"
	"github.com/skiff-sh/skiff/internal/controller/serviceaccount"
	"github.com/skiff-sh/skiff/internal/controller/tainteviction"
	"github.com/skiff-sh/skiff/internal/controller/tokencleaner"
	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/pki"
	"github.com/skiff-sh/skiff/internal/scheduler"
	"github.com/skiff-sh/skiff/internal/state"
	"github.com/skiff-sh/skiff/internal/store/bolt"
)

// plane is a whole control plane in a bubble of its own time: store, state, API,
// all controllers and the scheduler. Nothing in it is a stand-in but the nodes.
type plane struct {
	*testing.T
	ctx   context.Context
	group *errgroup.Group
	env   controller.Environment
	chain admission.Chain // what a test adds to the API's own
	ring  state.Ring
	ca    pki.Pair               // signs certificates
	home  netip.Addr             // of the API, read by one controller
	log   *observer.ObservedLogs // all that is not for debugging
}

func (p *plane) bootstrapConfig() bootstrap.Config {
	return bootstrap.Config{
		ServiceAddresses: []netip.Addr{netip.MustParseAddr("10.43.0.1")},
		DNSAddresses:     []netip.Addr{netip.MustParseAddr("10.43.0.10")},
		Port:             6443,
		ClientCA:         []byte("client ca"), FrontProxyCA: []byte("proxy ca"), FrontProxyNames: []string{"system:auth-proxy"},
		Node:         "home",
		ClusterCIDRs: []netip.Prefix{netip.MustParsePrefix("10.42.0.0/16")},
		ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.43.0.0/16")},
		Address:      func() netip.Addr { return p.home },
		Servers:      func() []string { return []string{"https://" + netip.AddrPortFrom(p.home, 6443).String()} },
	}
}

// inPlane runs a test in a plane and fails it for every recovered panic, every
// error that is logged, and every change of a shared object.
func inPlane(t *testing.T, test func(p *plane), steps ...admission.Step) {
	t.Helper()
	inPlaneWith(t, plane{chain: steps}, test)
}

func inPlaneWith(t *testing.T, options plane, test func(p *plane)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		p := &options
		p.T = t
		p.group, p.ctx = errgroup.WithContext(ctx)
		stop := p.open()
		test(p)
		cancel()
		if err := p.group.Wait(); err != nil && ctx.Err() == nil {
			t.Errorf("a part failed: %v", err)
		}
		stop()
		if n := p.env.Panics.Load(); n > 0 {
			t.Errorf("%d panics were recovered", n)
		}
	})
}

func (p *plane) open() (stop func()) {
	engine, err := bolt.Open(filepath.Join(p.TempDir(), "store"), bolt.Options{NoSync: true})
	p.must(err)
	s, err := state.Open(p.ctx, engine, kind.All, state.Options{DetectMutation: true, Ring: p.ring})
	p.must(err)
	core, observed := observer.New(zap.InfoLevel)
	p.log = observed
	log := zaptest.NewLogger(p.T, zaptest.Level(zap.ErrorLevel), zaptest.WrapOptions(zap.WrapCore(func(c zapcore.Core) zapcore.Core {
		return zapcore.NewTee(c, core)
	})))
	p.env = controller.Environment{State: s, Log: log, Panics: &atomic.Int64{}}
	p.env.API = api.New(api.Config{
		State: s, Admission: append(admission.New(s), p.chain...), Log: log,
		ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.43.0.0/16")},
		NodePorts:    config.PortRange{First: 30000, Last: 32767},
	})
	p.home = netip.MustParseAddr("192.0.2.1")
	p.must(bootstrap.Ensure(p.ctx, p.env, p.bootstrapConfig()))
	for _, c := range []controller.Runner{
		certificate.New(p.env, p.certificates()),
		bootstrap.New(p.env, p.bootstrapConfig()), serviceaccount.New(p.env), rootca.New(p.env, []byte("authority")),
		namespace.New(p.env, kind.All), garbage.New(p.env, kind.All), deployment.New(p.env), replicaset.New(p.env),
		endpointslice.New(p.env), nodeipam.New(p.env, []netip.Prefix{netip.MustParsePrefix("10.42.0.0/16")}),
		nodelifecycle.New(p.env), tainteviction.New(p.env), podgc.New(p.env), eventttl.New(p.env),
		tokencleaner.New(p.env),
	} {
		p.group.Go(func() error { return c.Run(p.ctx, p.env) })
	}
	p.group.Go(func() error {
		return scheduler.New(scheduler.Config{State: s, API: p.env.API, Log: log, Panics: p.env.Panics}).Run(p.ctx)
	})
	synctest.Wait()
	return func() {
		p.must(s.Close())
		p.must(engine.Close())
	}
}

func (p *plane) must(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}

// settle waits until nothing happens any more unless time passes.
func (p *plane) settle() { synctest.Wait() }

// pass lets time pass, and everything settle.
func (p *plane) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (p *plane) to(k *kind.Kind, name string) api.Request {
	req := api.Request{User: auth.User{Name: "admin", Groups: []string{auth.GroupMasters}}, FieldManager: "test", Kind: k, Name: name}
	if k.Namespaced {
		req.Namespace = "default"
	}
	return req
}

func (p *plane) create(obj kind.Object) kind.Object {
	p.Helper()
	req := p.to(kindOf(obj), "")
	if obj.GetNamespace() != "" {
		req.Namespace = obj.GetNamespace()
	}
	created, err := p.env.API.Create(p.ctx, req, obj)
	p.must(err)
	p.settle()
	return created
}

func kindOf(obj kind.Object) *kind.Kind {
	i := slices.IndexFunc(kind.All, func(k *kind.Kind) bool { return fmt.Sprintf("%T", k.New()) == fmt.Sprintf("%T", obj) })
	return kind.All[i]
}

// modify changes an object of the namespace default and waits for the
// consequences.
func modify[T kind.Object](p *plane, k *kind.Kind, name string, change func(T)) {
	p.Helper()
	_, err := p.env.API.Modify(p.ctx, p.to(k, name), func(obj kind.Object) error {
		change(obj.(T))
		return nil
	})
	p.must(err)
	p.settle()
}

func (p *plane) delete(k *kind.Kind, name string, way metav1.DeletionPropagation) {
	p.Helper()
	_, _, err := p.env.API.Delete(p.ctx, p.to(k, name), metav1.DeleteOptions{PropagationPolicy: &way})
	p.must(err)
	p.settle()
}

func get[T kind.Object](p *plane, k *kind.Kind, name string) T {
	p.Helper()
	req := p.to(k, name)
	obj, ok := state.Get[T](p.env.State, k, req.Namespace, name)
	if !ok {
		p.Fatalf("%s %s is missing", k.Kind, name)
	}
	return obj
}

func list[T kind.Object](p *plane, k *kind.Kind) []T {
	return state.List[T](p.env.State, k, state.Interest{Namespace: p.to(k, "").Namespace})
}

// names returns the names of the kind's objects in the namespace default.
func (p *plane) names(k *kind.Kind) []string {
	var out []string
	for _, obj := range list[kind.Object](p, k) {
		out = append(out, obj.GetName())
	}
	return out
}

// told returns "reason: message" of an object's Events in the namespace default,
// in the order in which they were written.
func (p *plane) told(name string) []string {
	events := list[*corev1.Event](p, kind.Event)
	slices.SortStableFunc(events, func(a, b *corev1.Event) int { return strings.Compare(a.Name, b.Name) })
	var out []string
	for _, e := range events {
		if e.InvolvedObject.Name == name {
			out = append(out, e.Reason+": "+e.Message)
		}
	}
	return out
}

// watch calls fn for every event of a kind, in order, as long as the plane runs.
// Where the ring is too small it begins anew, as a client does.
func (p *plane) watch(k *kind.Kind, fn func(state.Event)) {
	p.group.Go(func() error {
		for p.ctx.Err() == nil {
			snapshot, w := p.env.State.ListWatch(k, state.Interest{})
			snapshot.Ascend(state.Interest{}, "", func(obj kind.Object) bool {
				fn(state.Event{Type: state.Added, Object: obj})
				return true
			})
			var err error
			for err == nil {
				var e state.Event
				if e, err = w.Next(p.ctx); err == nil {
					fn(e)
				}
			}
			w.Stop()
		}
		return nil
	})
	p.settle()
}

// equal compares what is with what should be.
func equal[T comparable](p *plane, what string, got, want T) {
	p.Helper()
	if got != want {
		p.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func object(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: "default"}
}

func template(image string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: image}}},
	}
}

func newDeployment(replicas int32) *appsv1.Deployment {
	return &appsv1.Deployment{ObjectMeta: object("web"), Spec: appsv1.DeploymentSpec{
		Replicas: &replicas, Template: template("good:1"),
		Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}},
	}}
}
