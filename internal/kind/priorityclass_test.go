package kind

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func priorityClass(name string, value int32) *schedulingv1.PriorityClass {
	c := &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Value: value}
	PriorityClass.Default(c)
	return c
}

func TestPriorityClass(t *testing.T) {
	const reserved = "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: "
	cases := []struct {
		name string
		c    *schedulingv1.PriorityClass
		want []string
	}{
		{"good", priorityClass("high", 1000000000), nil},
		{"too high", priorityClass("high", 1000000001), []string{"value: Forbidden: maximum allowed value of a user defined priority is 1000000000"}},
		{"system", priorityClass("system-mine", 1), []string{reserved + "system-mine is not a known system priority class"}},
		{"system value", priorityClass("system-node-critical", 1), []string{reserved + "value of system-node-critical PriorityClass must be 2000001000"}},
		{"system default", func() *schedulingv1.PriorityClass {
			c := priorityClass("system-cluster-critical", 2000000000)
			c.GlobalDefault = true
			return c
		}(), []string{reserved + "globalDefault of system-cluster-critical PriorityClass must be false"}},
		{"policy", &schedulingv1.PriorityClass{PreemptionPolicy: ptr(corev1.PreemptionPolicy("Maybe"))},
			[]string{`preemptionPolicy: Unsupported value: "Maybe": supported values: "PreemptLowerPriority", "Never"`}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { sameErrors(t, PriorityClass.Validate(c.c), c.want...) })
	}
	for _, c := range SystemPriorityClasses() {
		sameErrors(t, PriorityClass.Validate(c))
	}
	c, old := priorityClass("a", 2), priorityClass("a", 1)
	c.PreemptionPolicy = ptr(corev1.PreemptNever)
	sameErrors(t, PriorityClass.ValidateUpdate(c, old),
		"value: Forbidden: may not be changed in an update.",
		`preemptionPolicy: Invalid value: "Never": field is immutable`)
	PriorityClass.PrepareCreate(c)
	if c.Generation != 1 {
		t.Errorf("generation %d", c.Generation)
	}
	rowOf(t, PriorityClass, c, "a", int64(2), false, "3h", "Never")
}
