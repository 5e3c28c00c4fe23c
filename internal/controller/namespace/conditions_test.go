package namespace

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/kind"
)

func TestConditions(t *testing.T) {
	early, now := metav1.NewTime(time.Unix(1, 0)), metav1.NewTime(time.Unix(2, 0))
	left := []leftover{
		{kind: kind.Pod, count: 2, finalizers: map[string]int{"b": 1}},
		{kind: kind.Lease, count: 1, finalizers: map[string]int{"a": 1, "b": 1}},
	}
	const discovered = `NamespaceDeletionDiscoveryFailure False ResourcesDiscovered: All resources successfully discovered
NamespaceDeletionGroupVersionParsingFailure False ParsedGroupVersions: All legacy kube types successfully parsed
`
	for _, c := range []struct {
		name    string
		left    []leftover
		failure error
		want    string
	}{
		{"nothing left", nil, nil, discovered + `NamespaceDeletionContentFailure False ContentDeleted: All content successfully deleted, may be waiting on finalization
NamespaceContentRemaining False ContentRemoved: All content successfully removed
NamespaceFinalizersRemaining False ContentHasNoFinalizers: All content-preserving finalizers finished`},
		{"some left", left, nil, discovered + `NamespaceDeletionContentFailure False ContentDeleted: All content successfully deleted, may be waiting on finalization
NamespaceContentRemaining True SomeResourcesRemain: Some resources are remaining: leases.coordination.k8s.io has 1 resource instances, pods. has 2 resource instances
NamespaceFinalizersRemaining True SomeFinalizersRemain: Some content in the namespace has finalizers remaining: a in 1 resource instances, b in 2 resource instances`},
		{"failed", nil, errors.New("no"), discovered + `NamespaceDeletionContentFailure True ContentDeletionFailed: Failed to delete all resource types, 1 remaining: no
NamespaceContentRemaining False ContentRemoved: All content successfully removed
NamespaceFinalizersRemaining False ContentHasNoFinalizers: All content-preserving finalizers finished`},
	} {
		old := []corev1.NamespaceCondition{{Type: corev1.NamespaceContentRemaining, Status: corev1.ConditionTrue, LastTransitionTime: early}}
		var got []string
		for _, condition := range conditions(old, c.left, c.failure, now) {
			got = append(got, fmt.Sprintf("%s %s %s: %s", condition.Type, condition.Status, condition.Reason, condition.Message))
			stays := condition.Type == corev1.NamespaceContentRemaining && condition.Status == corev1.ConditionTrue
			if stays != condition.LastTransitionTime.Equal(&early) {
				t.Errorf("%s: %s changed at %v", c.name, condition.Type, condition.LastTransitionTime)
			}
		}
		if text := strings.Join(got, "\n"); text != c.want {
			t.Errorf("%s: got\n%s\nwant\n%s", c.name, text, c.want)
		}
	}
}
