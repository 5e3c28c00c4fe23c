package kind

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestNamespaceCreate(t *testing.T) {
	n := &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "team-", Labels: map[string]string{"a": "b"}},
		Spec:       corev1.NamespaceSpec{Finalizers: []corev1.FinalizerName{"example.com/mine"}},
		Status:     corev1.NamespaceStatus{Phase: "Terminating"},
	}
	Namespace.Default(n)
	if _, labelled := n.Labels["kubernetes.io/metadata.name"]; labelled {
		t.Error("labelled before it had a name")
	}
	n.Name = "team-x"
	Namespace.PrepareCreate(n)
	Namespace.Canonicalize(n)
	want := &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{Name: "team-x", GenerateName: "team-", Labels: map[string]string{"a": "b", "kubernetes.io/metadata.name": "team-x"}},
		Spec:       corev1.NamespaceSpec{Finalizers: []corev1.FinalizerName{"example.com/mine", "kubernetes"}},
		Status:     corev1.NamespaceStatus{Phase: "Active"},
	}
	if d := cmp.Diff(want, n); d != "" {
		t.Error(d)
	}
	Namespace.PrepareCreate(n)
	if len(n.Spec.Finalizers) != 2 {
		t.Errorf("finalizers %v", n.Spec.Finalizers)
	}
	// The label cannot be taken off.
	delete(n.Labels, "kubernetes.io/metadata.name")
	Namespace.Default(n)
	if n.Labels["kubernetes.io/metadata.name"] != "team-x" {
		t.Errorf("labels %v", n.Labels)
	}
	n.Name = "a.b"
	if errs := Namespace.Validate(n); len(errs) != 1 || errs[0].Field != "metadata.name" {
		t.Errorf("name a.b: %v", errs)
	}
}

func TestNamespaceUpdate(t *testing.T) {
	old := &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{Name: "a"},
		Spec:       corev1.NamespaceSpec{Finalizers: []corev1.FinalizerName{"kubernetes"}},
		Status:     corev1.NamespaceStatus{Phase: "Active"},
	}
	changed := func() *corev1.Namespace {
		return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Status: corev1.NamespaceStatus{Phase: "Terminating"}}
	}
	cases := []struct {
		name       string
		prepare    func(obj, old Object)
		finalizers int
		phase      corev1.NamespacePhase
	}{
		{"main", Namespace.PrepareUpdate, 1, "Active"},
		{"status", Namespace.Subresource("status").PrepareUpdate, 1, "Terminating"},
		{"finalize", Namespace.Subresource("finalize").PrepareUpdate, 0, "Active"},
	}
	for _, c := range cases {
		n := changed()
		c.prepare(n, old)
		if len(n.Spec.Finalizers) != c.finalizers || n.Status.Phase != c.phase {
			t.Errorf("%s: %+v", c.name, n)
		}
	}
}

func TestNamespaceValidation(t *testing.T) {
	n := &corev1.Namespace{Spec: corev1.NamespaceSpec{Finalizers: []corev1.FinalizerName{"kubernetes", "orphan", "a.b/c", "mine"}}}
	const wrong = `Invalid value: "mine": name is neither a standard finalizer name nor is it fully qualified`
	sameErrors(t, Namespace.Validate(n), "spec.finalizers: "+wrong)
	sameErrors(t, Namespace.Subresource("finalize").ValidateUpdate(n, n), "spec.finalizers[3]: "+wrong)

	status := Namespace.Subresource("status")
	n.Status.Phase = "Terminating"
	sameErrors(t, status.ValidateUpdate(n, n), "status.Phase: Invalid value: \"Terminating\": may only be 'Active' if `deletionTimestamp` is empty")
	n.DeletionTimestamp = ptr(metav1.NewTime(time.Unix(1, 0)))
	sameErrors(t, status.ValidateUpdate(n, n))
	n.Status.Phase = "Active"
	sameErrors(t, status.ValidateUpdate(n, n), "status.Phase: Invalid value: \"Active\": may only be 'Terminating' if `deletionTimestamp` is not empty")
}

func TestNamespaceRow(t *testing.T) {
	n := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Status: corev1.NamespaceStatus{Phase: "Active"}}
	rowOf(t, Namespace, n, "a", "Active", "3h")
	if got := Namespace.Fields(n); got.Get("status.phase") != "Active" {
		t.Errorf("fields %v", got)
	}
}
