package api

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/kind"
)

// longAgo is a time that no new entry of a record has.
var longAgo = metav1.NewTime(time.Unix(1_000_000_000, 0))

func steadyMap() *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: "a", UID: "1", ResourceVersion: "1",
			Labels: map[string]string{"l": "1"}, Annotations: map[string]string{"n": "1"},
		},
		Data: map[string]string{"a": "1", "b": "2", "empty": ""}, BinaryData: map[string][]byte{"c": {1}}, Immutable: new(false),
	}
}

func steadyPod() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "a", UID: "1", Labels: map[string]string{"l": "1"}, Finalizers: []string{"x/y"}},
		Spec: corev1.PodSpec{
			NodeName: "n", ActiveDeadlineSeconds: new(int64(4)), NodeSelector: map[string]string{"k": "v"},
			SecurityContext: &corev1.PodSecurityContext{FSGroup: new(int64(3))},
			Containers: []corev1.Container{{Name: "c", Image: "i", Resources: corev1.ResourceRequirements{
				Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")},
			}}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodPending, Message: "m", Conditions: []corev1.PodCondition{{Type: "Ready", Status: "False"}}},
	}
}

func steadyDeployment() *appsv1.Deployment {
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "a", UID: "1", Labels: map[string]string{"l": "1"}}}
	d.Spec.Template.ObjectMeta = metav1.ObjectMeta{Name: "t", Labels: map[string]string{"l": "1"}, UID: "2", Generation: 3}
	return d
}

// mutations change one thing each, in ways that keep the record and in ways that
// do not.
var mapMutations = []func(*corev1.ConfigMap){
	func(m *corev1.ConfigMap) { m.Data["a"] = "3" },
	func(m *corev1.ConfigMap) { m.Data["b"] = "4" },
	func(m *corev1.ConfigMap) { m.Data["empty"] = "full" },
	func(m *corev1.ConfigMap) { m.Data["b"] = "" },
	func(m *corev1.ConfigMap) { m.Data["new"] = "5" },
	func(m *corev1.ConfigMap) { delete(m.Data, "a") },
	func(m *corev1.ConfigMap) { m.Data = map[string]string{} },
	func(m *corev1.ConfigMap) { m.Data = nil },
	func(m *corev1.ConfigMap) { m.BinaryData["c"] = []byte{2} },
	func(m *corev1.ConfigMap) { m.Labels["l"] = "2" },
	func(m *corev1.ConfigMap) { m.Annotations["n"] = "2" },
	func(m *corev1.ConfigMap) { m.Annotations = nil },
	func(m *corev1.ConfigMap) { m.Immutable = new(true) },
	func(m *corev1.ConfigMap) { m.Immutable = nil },
	func(m *corev1.ConfigMap) { m.ResourceVersion, m.UID, m.Generation = "2", "", 7 },
	func(m *corev1.ConfigMap) { m.ManagedFields = nil },
	func(m *corev1.ConfigMap) { m.ManagedFields = []metav1.ManagedFieldsEntry{{}} },
	func(m *corev1.ConfigMap) { m.ManagedFields = []metav1.ManagedFieldsEntry{} },
	func(m *corev1.ConfigMap) { m.ManagedFields = m.ManagedFields[:1] },
}

var podMutations = []func(*corev1.Pod){
	func(p *corev1.Pod) { p.Labels["l"] = "2" },
	func(p *corev1.Pod) { p.Finalizers = nil },
	func(p *corev1.Pod) { p.Spec.NodeName = "other" },
	func(p *corev1.Pod) { p.Spec.NodeName = "" },
	func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = new(int64(5)) },
	func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = nil },
	func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = new(int64(0)) },
	func(p *corev1.Pod) { p.Spec.NodeSelector["k"] = "w" },
	func(p *corev1.Pod) { p.Spec.SecurityContext.FSGroup = new(int64(9)) },
	func(p *corev1.Pod) { p.Spec.SecurityContext = nil },
	func(p *corev1.Pod) { p.Spec.Containers[0].Image = "j" },
	func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources.Requests[corev1.ResourceCPU] = resource.MustParse("1000m")
	},
	func(p *corev1.Pod) { p.Status.Message = "n" },
	func(p *corev1.Pod) { p.Status.Message = "" },
	func(p *corev1.Pod) { p.Status.Phase = corev1.PodRunning },
	func(p *corev1.Pod) { p.Status.Conditions[0].Status = "True" },
	func(p *corev1.Pod) { p.ManagedFields = nil },
}

// A template's metadata is not the object's own.
var deploymentMutations = []func(*appsv1.Deployment){
	func(d *appsv1.Deployment) { d.Name, d.Namespace, d.SelfLink = "other", "other", "other" },
	func(d *appsv1.Deployment) { d.Labels["l"] = "2" },
	func(d *appsv1.Deployment) { d.Spec.Template.Name = "u" },
	func(d *appsv1.Deployment) { d.Spec.Template.Name = "" },
	func(d *appsv1.Deployment) { d.Spec.Template.Namespace = "n" },
	func(d *appsv1.Deployment) { d.Spec.Template.UID = "4" },
	func(d *appsv1.Deployment) { d.Spec.Template.ResourceVersion = "5" },
	func(d *appsv1.Deployment) { d.Spec.Template.Generation = 6 },
	func(d *appsv1.Deployment) { d.Spec.Template.CreationTimestamp = longAgo },
	func(d *appsv1.Deployment) { d.Spec.Template.Labels["l"] = "2" },
	func(d *appsv1.Deployment) {
		d.Spec.Template.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "m"}}
	},
}

// TestSteady makes objects that several managers share, changes them at random, and
// compares the record found in the short way with the one that is made anew.
func TestSteady(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	short := 0
	for range 1000 {
		switch random.IntN(3) {
		case 0:
			short += trySteady(t, random, kind.ConfigMap, steadyMap(), mapMutations, []string{""})
		case 1:
			short += trySteady(t, random, kind.Pod, steadyPod(), podMutations, []string{"", "status", "ephemeralcontainers"})
		default:
			short += trySteady(t, random, kind.Deployment, steadyDeployment(), deploymentMutations, []string{"", "status"})
		}
	}
	if short < 100 {
		t.Errorf("only %d of 1000 updates went the short way", short)
	}
}

func trySteady[T kind.Object](t *testing.T, random *rand.Rand, k *kind.Kind, obj T, mutations []func(T), parts []string) (short int) {
	t.Helper()
	m := &managers{}
	someone := func() *Request {
		return &Request{Kind: k, FieldManager: fmt.Sprintf("m%d", random.IntN(2)), Subresource: parts[random.IntN(len(parts))]}
	}
	defaulted := func(obj T) T { // as all are when records are made
		if k.Default != nil {
			k.Default(obj)
		}
		return obj
	}
	next := func(old T, most int) T {
		n := old.DeepCopyObject().(T)
		for range random.IntN(most + 1) {
			func() {
				defer func() { _ = recover() }() // a mutation of what another one took away
				mutations[random.IntN(len(mutations))](n)
			}()
		}
		return defaulted(n)
	}
	old := defaulted(obj.DeepCopyObject().(T))
	old.SetUID("")
	if err := m.anew(someone(), old, someone().empty()); err != nil {
		t.Fatal(err)
	}
	old.SetUID("1")
	for range random.IntN(3) {
		changed := next(old, 2)
		if err := m.anew(someone(), changed, old); err != nil {
			t.Fatal(err)
		}
		changed.SetUID("1")
		old = changed
	}
	entries := old.GetManagedFields()
	if len(entries) > 0 && random.IntN(4) == 0 { // who applied what is there owns it as well
		applied := entries[random.IntN(len(entries))]
		applied.Manager, applied.Operation, applied.Subresource = "applier", metav1.ManagedFieldsOperationApply, ""
		entries = append([]metav1.ManagedFieldsEntry{applied}, entries...)
		old.SetManagedFields(entries)
	}
	for i := range entries {
		entries[i].Time = &longAgo
	}
	slices.SortFunc(entries, compareEntries)
	req, changed := someone(), next(old, 2)
	record, ok := m.steady(req, changed, old)
	if !ok {
		return 0
	}
	if err := m.anew(req, changed, old); err != nil {
		t.Fatal(err)
	}
	want := changed.GetManagedFields()
	for _, r := range [][]metav1.ManagedFieldsEntry{record, want} {
		for i := range r {
			if !r[i].Time.Equal(&longAgo) {
				r[i].Time = nil // now: a second may have gone by
			}
		}
	}
	if !equality.Semantic.DeepEqual(record, want) {
		t.Fatalf("%s of %q by %s:\nthe short way %v\nanew          %v", k.Kind, req.Subresource, req.FieldManager, record, want)
	}
	return 1
}
