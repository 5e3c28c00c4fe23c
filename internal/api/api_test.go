package api_test

import (
	"context"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/admission"
	"github.com/skiff-sh/skiff/internal/api"
	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
	"github.com/skiff-sh/skiff/internal/store/bolt"
)

// cluster is an API over a real store.
type cluster struct {
	*api.API
	state *state.State
	t     testing.TB
}

type option func(*api.Config, *state.Options)

func serviceCIDRs(texts ...string) option {
	return func(c *api.Config, _ *state.Options) {
		c.ServiceCIDRs = nil
		for _, text := range texts {
			c.ServiceCIDRs = append(c.ServiceCIDRs, netip.MustParsePrefix(text))
		}
	}
}

func nodePorts(first, last int) option {
	return func(c *api.Config, _ *state.Options) { c.NodePorts = config.PortRange{First: first, Last: last} }
}

// newCluster has the namespaces default and kube-system with a default
// ServiceAccount each.
func newCluster(t testing.TB, options ...option) *cluster {
	t.Helper()
	engine, err := bolt.Open(filepath.Join(t.TempDir(), "store"), bolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { engine.Close() })
	c := api.Config{
		ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.43.0.0/16")},
		NodePorts:    config.PortRange{First: 30000, Last: 32767},
	}
	_, benchmark := t.(*testing.B)
	bounds := state.Options{DetectMutation: !benchmark}
	for _, o := range options {
		o(&c, &bounds)
	}
	s, err := state.Open(context.Background(), engine, kind.All, bounds)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	c.State, c.Admission = s, admission.New(s)
	cl := &cluster{API: api.New(c), state: s, t: t}
	for _, ns := range []string{"default", "kube-system"} {
		cl.create(kind.Namespace, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}})
		cl.create(kind.ServiceAccount, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "default"}})
	}
	return cl
}

func to(k *kind.Kind, namespace, name string) api.Request {
	return api.Request{Kind: k, Namespace: namespace, Name: name, FieldManager: "test"}
}

func at(k *kind.Kind, obj kind.Object) api.Request { return to(k, obj.GetNamespace(), obj.GetName()) }

func (c *cluster) create(k *kind.Kind, obj kind.Object) kind.Object {
	c.t.Helper()
	out, err := c.Create(context.Background(), to(k, obj.GetNamespace(), obj.GetName()), obj)
	if err != nil {
		c.t.Fatalf("create %s %s: %v", k.Kind, obj.GetName(), err)
	}
	return out
}

func (c *cluster) get(k *kind.Kind, namespace, name string) kind.Object {
	c.t.Helper()
	out, err := c.Get(context.Background(), to(k, namespace, name))
	if err != nil {
		c.t.Fatalf("get %s %s/%s: %v", k.Kind, namespace, name, err)
	}
	return out
}

func (c *cluster) isGone(k *kind.Kind, namespace, name string) {
	c.t.Helper()
	if _, err := c.Get(context.Background(), to(k, namespace, name)); !apierrors.IsNotFound(err) {
		c.t.Fatalf("get %s %s/%s: %v, want it gone", k.Kind, namespace, name, err)
	}
}

// wantStatus checks an error's reason and that its text contains another.
func wantStatus(t testing.TB, err error, reason metav1.StatusReason, text string) *apierrors.StatusError {
	t.Helper()
	status, ok := err.(*apierrors.StatusError)
	if !ok {
		t.Fatalf("error %v (%T), want a status with reason %q", err, err, reason)
	}
	if status.ErrStatus.Reason != reason || !strings.Contains(status.ErrStatus.Message, text) {
		t.Fatalf("status %q: %s\nwant   %q: …%s…", status.ErrStatus.Reason, status.ErrStatus.Message, reason, text)
	}
	return status
}

func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func configMap(name string, pairs ...string) *corev1.ConfigMap {
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Data: map[string]string{}}
	for i := 0; i+1 < len(pairs); i += 2 {
		cm.Data[pairs[i]] = pairs[i+1]
	}
	return cm
}

func pod(name string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "busybox"}}},
	}
	for _, f := range change {
		f(p)
	}
	return p
}

func onNode(node string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.NodeName = node }
}

func service(name string, change ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": name},
			Ports:    []corev1.ServicePort{{Name: "http", Port: 80}},
		},
	}
	for _, f := range change {
		f(s)
	}
	return s
}

func deployment(name string, replicas int32) *appsv1.Deployment {
	labels := map[string]string{"app": name}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "busybox"}}},
			},
		},
	}
}

func lease(name, holder string) *coordinationv1.Lease {
	return &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec:       coordinationv1.LeaseSpec{HolderIdentity: &holder},
	}
}

func asDeployment(obj kind.Object) *appsv1.Deployment { return obj.(*appsv1.Deployment) }
