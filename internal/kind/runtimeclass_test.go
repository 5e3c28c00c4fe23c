package kind

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func runtimeClass(handler string, change ...func(*nodev1.RuntimeClass)) *nodev1.RuntimeClass {
	c := &nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: "c"}, Handler: handler}
	for _, fn := range change {
		fn(c)
	}
	return c
}

func TestRuntimeClass(t *testing.T) {
	overhead := func(name corev1.ResourceName, text string) func(*nodev1.RuntimeClass) {
		return func(c *nodev1.RuntimeClass) {
			c.Overhead = &nodev1.Overhead{PodFixed: corev1.ResourceList{name: resource.MustParse(text)}}
		}
	}
	tolerates := func(list ...corev1.Toleration) func(*nodev1.RuntimeClass) {
		return func(c *nodev1.RuntimeClass) { c.Scheduling = &nodev1.Scheduling{Tolerations: list} }
	}
	selects := func(labels map[string]string) func(*nodev1.RuntimeClass) {
		return func(c *nodev1.RuntimeClass) { c.Scheduling = &nodev1.Scheduling{NodeSelector: labels} }
	}
	const label = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
	exists := corev1.Toleration{Key: "a", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute}
	later := exists
	later.TolerationSeconds = ptr(int64(5))
	for name, c := range map[string]struct {
		class *nodev1.RuntimeClass
		want  []string
	}{
		"good":            {runtimeClass("runsc", overhead("memory", "120Mi"), tolerates(exists), selects(map[string]string{"a": "b"})), nil},
		"no handler":      {runtimeClass(""), []string{"handler: Required value"}},
		"bad handler":     {runtimeClass("Run/sc"), []string{`handler: Invalid value: "Run/sc": ` + label}},
		"long handler":    {runtimeClass(strings.Repeat("a", 64)), []string{`handler: Invalid value: "` + strings.Repeat("a", 64) + `": must be no more than 63 characters`}},
		"negative":        {runtimeClass("r", overhead("cpu", "-1")), []string{`overhead.limits[cpu]: Invalid value: "-1": must be greater than or equal to 0`}},
		"no such":         {runtimeClass("r", overhead("pods", "1")), []string{`overhead.limits[pods]: Invalid value: "pods": must be a standard resource for containers`}},
		"label":           {runtimeClass("r", selects(map[string]string{"a": "b c"})), []string{`scheduling.nodeSelector: Invalid value: "b c": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')`}},
		"tolerates twice": {runtimeClass("r", tolerates(exists, later)), []string{`scheduling.tolerations[1]: Duplicate value: {"Key":"a","Operator":"Exists","Value":"","Effect":"NoExecute","TolerationSeconds":5}`}},
		"tolerates what":  {runtimeClass("r", tolerates(corev1.Toleration{})), []string{`scheduling.tolerations[0].operator: Invalid value: "": operator must be Exists when ` + "`key`" + ` is empty, which means "match all values and all keys"`}},
	} {
		t.Run(name, func(t *testing.T) {
			sameErrors(t, RuntimeClass.Validate(c.class), c.want...)
		})
	}
	finalized := runtimeClass("r", func(c *nodev1.RuntimeClass) { c.Finalizers = []string{"mine"} })
	sameErrors(t, RuntimeClass.Validate(finalized))
	kept := finalized.DeepCopy()
	kept.ResourceVersion = "1"
	sameErrors(t, RuntimeClass.ValidateUpdate(kept, finalized))
	old := runtimeClass("one")
	old.ResourceVersion = "1"
	changed := old.DeepCopy()
	changed.Handler = "two"
	sameErrors(t, RuntimeClass.ValidateUpdate(changed, old), `handler: Invalid value: "two": field is immutable`)
	warned := RuntimeClass.Warnings(runtimeClass("r", selects(map[string]string{"beta.kubernetes.io/arch": "arm64", "a": "b"})), nil)
	if want := []string{`scheduling.nodeSelector: deprecated since v1.14; use "kubernetes.io/arch" instead`}; !slices.Equal(warned, want) {
		t.Errorf("warnings %q", warned)
	}
	rowOf(t, RuntimeClass, runtimeClass("runsc"), "c", "runsc", "3h")
}
