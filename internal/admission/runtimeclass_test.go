package admission_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/admission"
	"github.com/skiff-sh/skiff/internal/kind"
)

func TestRuntimeClass(t *testing.T) {
	exists := func(key string, effect corev1.TaintEffect) corev1.Toleration {
		return corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, Effect: effect}
	}
	equal := corev1.Toleration{Key: "a", Operator: corev1.TolerationOpEqual, Value: "b", Effect: corev1.TaintEffectNoSchedule}
	s := world(t,
		&nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: "plain"}, Handler: "runc"},
		&nodev1.RuntimeClass{
			ObjectMeta: metav1.ObjectMeta{Name: "heavy"}, Handler: "kata",
			Overhead: &nodev1.Overhead{PodFixed: list("250m", "120Mi")},
			Scheduling: &nodev1.Scheduling{
				NodeSelector: map[string]string{"kata": "yes"}, Tolerations: []corev1.Toleration{exists("a", ""), exists("kata", "")},
			},
		})
	named := func(name string, change ...func(*corev1.Pod)) *corev1.Pod {
		return pod(append(change, func(p *corev1.Pod) { p.Spec.RuntimeClassName = &name })...)
	}
	for _, c := range []struct {
		name       string
		pod        *corev1.Pod
		want       string
		overhead   corev1.ResourceList
		selector   map[string]string
		tolerances []corev1.Toleration
	}{
		{name: "none", pod: pod()},
		{name: "overhead of its own", pod: pod(func(p *corev1.Pod) { p.Spec.Overhead = list("1", "1") }),
			want: `pods "p" is forbidden: pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead`},
		{name: "unknown", pod: named("other"), want: `pods "p" is forbidden: pod rejected: RuntimeClass "other" not found`},
		{name: "no name", pod: named(""), want: `resource name may not be empty`},
		{name: "no name of any", pod: named("50%"), want: `invalid resource name "50%": [may not contain '%']`},
		{name: "plain", pod: named("plain")},
		{name: "overhead of its own, plain", pod: named("plain", func(p *corev1.Pod) { p.Spec.Overhead = list("1", "1") }),
			want: `pods "p" is forbidden: pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead`},
		{name: "heavy", pod: named("heavy"),
			overhead: list("250m", "120Mi"), selector: map[string]string{"kata": "yes"}, tolerances: []corev1.Toleration{exists("a", ""), exists("kata", "")}},
		{name: "heavy with settings", pod: named("heavy", func(p *corev1.Pod) {
			p.Spec.Overhead, p.Spec.NodeSelector = list("250m", "120Mi"), map[string]string{"disk": "fast", "kata": "yes"}
			p.Spec.Tolerations = []corev1.Toleration{equal, exists("kata", "")}
		}), overhead: list("250m", "120Mi"), selector: map[string]string{"disk": "fast", "kata": "yes"}, tolerances: []corev1.Toleration{exists("kata", ""), exists("a", "")}},
		{name: "another overhead", pod: named("heavy", func(p *corev1.Pod) { p.Spec.Overhead = list("1", "120Mi") }),
			want: `pods "p" is forbidden: pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead`},
		{name: "another node", pod: named("heavy", func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"kata": "no"} }),
			want: `pods "p" is forbidden: conflict: runtimeClass.scheduling.nodeSelector[kata] = yes; pod.spec.nodeSelector[kata] = no`},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.pod.Spec.Tolerations = append([]corev1.Toleration{}, c.pod.Spec.Tolerations...)
			r := &admission.Request{Operation: admission.Create, Kind: kind.Pod, Name: "p", Namespace: c.pod.Namespace, Object: c.pod}
			step := only(admission.New(s), "RuntimeClass")
			err := step.Mutate(t.Context(), r)
			if err == nil {
				err = step.Validate(t.Context(), r)
			}
			text := ""
			if err != nil {
				text = err.Error()
			}
			if text != c.want {
				t.Fatalf("error %q, want %q", text, c.want)
			}
			if text != "" {
				return
			}
			got := []any{c.pod.Spec.Overhead, c.pod.Spec.NodeSelector, append([]corev1.Toleration(nil), c.pod.Spec.Tolerations...)}
			if d := cmp.Diff([]any{c.overhead, c.selector, c.tolerances}, got); d != "" {
				t.Error(d)
			}
		})
	}
}

// only is the chain's step of that name.
func only(c admission.Chain, name string) admission.Step {
	for _, s := range c {
		if s.Name == name {
			return s
		}
	}
	return admission.Step{}
}

// TestForbidName: what is refused is called by the name it asks for, or by what it has
// of one.
func TestForbidName(t *testing.T) {
	for _, c := range []struct {
		name string
		r    admission.Request
		want string
	}{
		{"of the request", admission.Request{Name: "a", Object: pod()}, "a"},
		{"of the object", admission.Request{Object: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "b"}}}, "b"},
		{"generated", admission.Request{Object: &corev1.Pod{ObjectMeta: metav1.ObjectMeta{GenerateName: "c-"}}}, "c-"},
		{"none", admission.Request{Object: &corev1.Pod{}}, "Unknown"},
	} {
		c.r.Kind = kind.Pod
		if got := c.r.Forbid(errors.New("x")).Status().Details.Name; got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
