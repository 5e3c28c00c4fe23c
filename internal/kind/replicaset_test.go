package kind

import (
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func newReplicaSet(changes ...func(*appsv1.ReplicaSet)) *appsv1.ReplicaSet {
	rs := &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Name: "web-1", Namespace: "default"},
		Spec:       appsv1.ReplicaSetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}, Template: newTemplate()},
	}
	for _, change := range changes {
		change(rs)
	}
	ReplicaSet.Default(rs)
	return rs
}

func TestReplicaSetValidation(t *testing.T) {
	if rs := newReplicaSet(); *rs.Spec.Replicas != 1 || rs.Spec.Template.Spec.DNSPolicy == "" {
		t.Errorf("defaults: %+v", rs.Spec)
	}
	cases := []struct {
		name   string
		change func(*appsv1.ReplicaSet)
		want   []string
	}{
		{"good", func(*appsv1.ReplicaSet) {}, nil},
		{"numbers", func(rs *appsv1.ReplicaSet) { rs.Spec.Replicas, rs.Spec.MinReadySeconds = new(int32(-1)), -1 }, []string{
			"spec.replicas: Invalid value: -1: must be greater than or equal to 0",
			"spec.minReadySeconds: Invalid value: -1: must be greater than or equal to 0"}},
		{"empty selector", func(rs *appsv1.ReplicaSet) { rs.Spec.Selector = &metav1.LabelSelector{} }, []string{
			"spec.selector: Invalid value: {}: empty selector is invalid for deployment"}},
		{"selector", func(rs *appsv1.ReplicaSet) {
			rs.Spec.Selector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Is"}}}
		}, []string{
			`spec.selector.matchExpressions[0].operator: Invalid value: "Is": not a valid selector operator`,
			`spec.selector: Invalid value: {"matchExpressions":[{"key":"a","operator":"Is"}]}: invalid label selector`}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			sameErrors(t, ReplicaSet.Validate(newReplicaSet(c.change)), c.want...)
		})
	}
}

func TestReplicaSetUpdate(t *testing.T) {
	old := newReplicaSet(func(rs *appsv1.ReplicaSet) { rs.Generation = 2 })
	rs := old.DeepCopy()
	rs.Spec.Selector.MatchLabels = map[string]string{"tier": "front"}
	sameErrors(t, ReplicaSet.ValidateUpdate(rs, old), `spec.selector: Invalid value: {"matchLabels":{"tier":"front"}}: field is immutable`)

	rs = old.DeepCopy()
	rs.Spec.Replicas = new(int32(4))
	rs.Status.Replicas = 9
	ReplicaSet.PrepareUpdate(rs, old)
	if rs.Generation != 3 || rs.Status.Replicas != 0 {
		t.Errorf("generation %d, status %+v", rs.Generation, rs.Status)
	}

	status := ReplicaSet.Subresource("status")
	rs.Status = appsv1.ReplicaSetStatus{Replicas: 1, FullyLabeledReplicas: 2, AvailableReplicas: 1}
	status.PrepareUpdate(rs, old)
	if *rs.Spec.Replicas != 1 || rs.Generation != 2 {
		t.Errorf("a status update changed the spec: %+v", rs.Spec)
	}
	sameErrors(t, status.ValidateUpdate(rs, old),
		"status.fullyLabeledReplicas: Invalid value: 2: cannot be greater than status.replicas",
		"status.availableReplicas: Invalid value: 1: cannot be greater than readyReplicas")
}

func TestReplicaSetRow(t *testing.T) {
	rs := newReplicaSet(func(rs *appsv1.ReplicaSet) {
		rs.CreationTimestamp, rs.Spec.Replicas = at(2*time.Hour), new(int32(3))
		rs.Status = appsv1.ReplicaSetStatus{Replicas: 2, ReadyReplicas: 1}
	})
	if got, want := strings.Join(cells(ReplicaSet.Row(rs, tableTime)), " "), "web-1 3 2 1 120m app,log nginx:1.27,fluent app=web"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
