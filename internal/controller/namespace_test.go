package controller_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
)

// leftIn returns "Kind/name" of all that a namespace holds, Events excepted.
func leftIn(p *plane, namespace string) []string {
	var out []string
	for _, k := range kind.All {
		if !k.Namespaced || k == kind.Event {
			continue
		}
		for _, obj := range state.List[kind.Object](p.env.State, k, state.Interest{Namespace: namespace}) {
			out = append(out, k.Kind+"/"+obj.GetName())
		}
	}
	return out
}

func terminating(p *plane, name string, t corev1.NamespaceConditionType) string {
	p.Helper()
	for _, c := range get[*corev1.Namespace](p, kind.Namespace, name).Status.Conditions {
		if c.Type == t {
			return string(c.Status) + " " + c.Reason + ": " + c.Message
		}
	}
	return "none"
}

func TestNamespaceDeletion(t *testing.T) {
	inPlane(t, func(p *plane) {
		m := p.machine("a")
		p.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}})
		d := newDeployment(3)
		d.Namespace = "shop"
		p.create(d)
		p.create(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop"}, Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": "web"}, Ports: []corev1.ServicePort{{Port: 80}},
		}})
		p.create(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "kept", Namespace: "shop", Finalizers: []string{"example.com/hold"}}})
		if got := leftIn(p, "shop"); len(got) < 10 {
			t.Fatalf("the namespace holds only %q", got)
		}
		m.silent.Store(true)
		p.delete(kind.Namespace, "shop", metav1.DeletePropagationBackground)
		equal(p, "phase", get[*corev1.Namespace](p, kind.Namespace, "shop").Status.Phase, corev1.NamespaceTerminating)
		equal(p, "content while Pods run", terminating(p, "shop", corev1.NamespaceContentRemaining),
			"True SomeResourcesRemain: Some resources are remaining: pods. has 3 resource instances")
		if got := leftIn(p, "shop"); !slices.Contains(got, "Secret/x") && !slices.Contains(got, "Service/web") {
			t.Errorf("what restrains Pods went before them: %q", got)
		}
		m.silent.Store(false)
		for _, pod := range state.List[*corev1.Pod](p.env.State, kind.Pod, state.Interest{Namespace: "shop"}) {
			m.work(pod)
		}
		p.pass(2 * time.Second)
		if got := leftIn(p, "shop"); !slices.Equal(got, []string{"ConfigMap/kept"}) {
			t.Errorf("left are %q", got)
		}
		equal(p, "finalizers", terminating(p, "shop", corev1.NamespaceFinalizersRemaining),
			"True SomeFinalizersRemain: Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances")
		equal(p, "deletion", terminating(p, "shop", corev1.NamespaceDeletionContentFailure),
			"False ContentDeleted: All content successfully deleted, may be waiting on finalization")
		req := p.to(kind.ConfigMap, "kept")
		req.Namespace = "shop"
		_, err := p.env.API.Modify(p.ctx, req, func(obj kind.Object) error { obj.SetFinalizers(nil); return nil })
		p.must(err)
		p.settle()
		if _, ok := p.env.State.Get(kind.Namespace, "", "shop"); ok {
			t.Errorf("the namespace is still there: %q", leftIn(p, "shop"))
		}
	})
}

func TestWhatEveryNamespaceHas(t *testing.T) {
	inPlane(t, func(p *plane) {
		p.delete(kind.ServiceAccount, "default", metav1.DeletePropagationBackground)
		get[*corev1.ServiceAccount](p, kind.ServiceAccount, "default")
		p.delete(kind.ConfigMap, "kube-root-ca.crt", metav1.DeletePropagationBackground)
		modify(p, kind.ConfigMap, "kube-root-ca.crt", func(c *corev1.ConfigMap) { c.Data = map[string]string{"ca.crt": "mine"} })
		c := get[*corev1.ConfigMap](p, kind.ConfigMap, "kube-root-ca.crt")
		equal(p, "authority", c.Data["ca.crt"], "authority")
		if !strings.HasPrefix(c.Annotations["kubernetes.io/description"], "Contains a CA bundle") {
			t.Errorf("annotations %q", c.Annotations)
		}
	})
}

func TestBootstrapObjectsComeBack(t *testing.T) {
	inPlane(t, func(p *plane) {
		service := get[*corev1.Service](p, kind.Service, "kubernetes")
		equal(p, "address", service.Spec.ClusterIP, "10.43.0.1")
		p.delete(kind.Service, "kubernetes", metav1.DeletePropagationBackground)
		if get[*corev1.Service](p, kind.Service, "kubernetes").UID == service.UID {
			t.Error("the Service was not deleted at all")
		}
		p.delete(kind.PriorityClass, "system-node-critical", metav1.DeletePropagationBackground)
		if _, ok := p.env.State.Get(kind.PriorityClass, "", "system-node-critical"); !ok {
			t.Error("the priority class did not come back")
		}
		modify(p, kind.Endpoints, "kubernetes", func(e *corev1.Endpoints) { e.Subsets[0].Addresses[0].IP = "203.0.113.9" })
		equal(p, "endpoint", get[*corev1.Endpoints](p, kind.Endpoints, "kubernetes").Subsets[0].Addresses[0].IP, "192.0.2.1")
		if _, ok := p.env.State.Get(kind.EndpointSlice, "default", "kubernetes"); !ok {
			t.Error("the slice of default/kubernetes is missing")
		}
	})
}
