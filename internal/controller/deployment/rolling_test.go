package deployment

import (
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

var now = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func value(text string) *intstr.IntOrString { v := intstr.Parse(text); return &v }

// rolls returns a Deployment of image "new" that updates by a surge and an
// unavailability.
func rolls(replicas int32, surge, unavailable string) *appsv1.Deployment {
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default", UID: "d"}}
	d.Spec.Replicas = &replicas
	d.Spec.ProgressDeadlineSeconds = new(int32(600))
	d.Spec.Template.Spec.Containers = []corev1.Container{{Name: "c", Image: "new"}}
	d.Spec.Strategy = appsv1.DeploymentStrategy{
		Type:          appsv1.RollingUpdateDeploymentStrategyType,
		RollingUpdate: &appsv1.RollingUpdateDeployment{MaxSurge: value(surge), MaxUnavailable: value(unavailable)},
	}
	return d
}

// replicaSet returns one that wants and has replicas, of which some are
// available. Sets are older the smaller age is.
func replicaSet(image string, age, replicas, available int32) *appsv1.ReplicaSet {
	rs := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{
		Name: fmt.Sprintf("%s-%d", image, age), UID: types.UID(fmt.Sprintf("%s-%d", image, age)),
		CreationTimestamp: metav1.NewTime(now.Add(time.Duration(age) * time.Minute)), Annotations: map[string]string{},
	}}
	rs.Spec.Replicas = &replicas
	rs.Spec.Template.Spec.Containers = []corev1.Container{{Name: "c", Image: image}}
	rs.Status = appsv1.ReplicaSetStatus{Replicas: replicas, AvailableReplicas: available, ReadyReplicas: available}
	return rs
}

// sizedFor notes the size that the Deployment had.
func sizedFor(rs *appsv1.ReplicaSet, desired, most int32) *appsv1.ReplicaSet {
	setReplicasAnnotations(rs, desired, most)
	return rs
}

func steps(list []scale) string {
	var out []string
	for _, s := range list {
		out = append(out, fmt.Sprintf("%s:%d→%d", s.rs.Name, *s.rs.Spec.Replicas, s.replicas))
	}
	return strings.Join(out, " ")
}

func TestFenceposts(t *testing.T) {
	for _, c := range []struct {
		replicas           int32
		surge, unavailable string
		s, u               int32
	}{
		{10, "25%", "25%", 3, 2}, {1, "25%", "25%", 1, 0}, {4, "25%", "25%", 1, 1}, {3, "1%", "99%", 1, 2},
		{10, "0", "0", 0, 1}, {10, "0%", "5%", 0, 1}, {0, "25%", "25%", 0, 1}, {10, "100%", "100%", 10, 10}, {5, "3", "2", 3, 2},
	} {
		s, u := newRollout(rolls(c.replicas, c.surge, c.unavailable), nil, now).fenceposts()
		if s != c.s || u != c.u {
			t.Errorf("%d of %s and %s: %d and %d, want %d and %d", c.replicas, c.surge, c.unavailable, s, u, c.s, c.u)
		}
	}
}

func TestScaleNew(t *testing.T) {
	going := replicaSet("old", 0, 8, 8)
	going.Status.Replicas = 10 // two are still to go
	for _, c := range []struct {
		name string
		d    *appsv1.Deployment
		sets []*appsv1.ReplicaSet
		want string
	}{
		{"up to the surge", rolls(10, "3", "0"), []*appsv1.ReplicaSet{replicaSet("old", 0, 10, 10), replicaSet("new", 1, 0, 0)}, "new-1:0→3"},
		{"no room", rolls(10, "0", "3"), []*appsv1.ReplicaSet{replicaSet("old", 0, 10, 10), replicaSet("new", 1, 0, 0)}, ""},
		{"as much as is free", rolls(10, "0", "3"), []*appsv1.ReplicaSet{replicaSet("old", 0, 7, 7), replicaSet("new", 1, 0, 0)}, "new-1:0→3"},
		{"not more than is wanted", rolls(3, "100%", "0"), []*appsv1.ReplicaSet{replicaSet("old", 0, 1, 1), replicaSet("new", 1, 1, 1)}, "new-1:1→3"},
		{"room that is taken yet", rolls(10, "0", "2"), []*appsv1.ReplicaSet{going, replicaSet("new", 1, 0, 0)}, ""},
		{"down", rolls(2, "1", "0"), []*appsv1.ReplicaSet{replicaSet("new", 1, 5, 5)}, "new-1:5→2"},
		{"done", rolls(2, "1", "0"), []*appsv1.ReplicaSet{replicaSet("new", 1, 2, 2)}, ""},
	} {
		if got := steps(newRollout(c.d, c.sets, now).scaleNew()); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestScaleOld(t *testing.T) {
	stale := replicaSet("old", 0, 8, 8)
	stale.Status.Replicas, stale.Status.AvailableReplicas = 10, 10
	for _, c := range []struct {
		name string
		d    *appsv1.Deployment
		sets []*appsv1.ReplicaSet
		want string
	}{
		{"as many as may be missing", rolls(10, "0", "2"), []*appsv1.ReplicaSet{replicaSet("old", 0, 10, 10), replicaSet("new", 1, 0, 0)}, "old-0:10→8"},
		{"as many as are new and available", rolls(10, "2", "0"), []*appsv1.ReplicaSet{replicaSet("old", 0, 10, 10), replicaSet("new", 1, 2, 1)}, "old-0:10→9"},
		{"none while the new ones are not available", rolls(10, "2", "0"), []*appsv1.ReplicaSet{replicaSet("old", 0, 10, 10), replicaSet("new", 1, 2, 0)}, ""},
		{"first those that are not available", rolls(10, "2", "2"), []*appsv1.ReplicaSet{replicaSet("a", 0, 5, 5), replicaSet("b", 1, 5, 2), replicaSet("new", 2, 2, 2)}, "a-0:5→4 b-1:5→2"},
		{"the unavailable, not beyond the room", rolls(10, "0", "2"), []*appsv1.ReplicaSet{replicaSet("old", 0, 10, 0), replicaSet("new", 1, 0, 0)}, "old-0:10→8"},
		{"the oldest first", rolls(4, "1", "0"), []*appsv1.ReplicaSet{replicaSet("a", 0, 1, 1), replicaSet("b", 1, 2, 2), replicaSet("new", 2, 2, 2)}, "a-0:1→0"},
		{"no Pods that are to go anyway", rolls(10, "0", "2"), []*appsv1.ReplicaSet{stale, replicaSet("new", 1, 2, 1)}, "old-0:8→7"},
		{"all of a Deployment of none", rolls(0, "25%", "25%"), []*appsv1.ReplicaSet{replicaSet("old", 0, 3, 3), replicaSet("new", 1, 0, 0)}, "old-0:3→0"},
		{"nothing old", rolls(3, "1", "0"), []*appsv1.ReplicaSet{replicaSet("old", 0, 0, 0), replicaSet("new", 1, 3, 3)}, ""},
	} {
		if got := steps(newRollout(c.d, c.sets, now).scaleOld()); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestProportion(t *testing.T) {
	for _, c := range []struct {
		name string
		d    *appsv1.Deployment
		sets []*appsv1.ReplicaSet
		want string
	}{
		{"the only one", rolls(10, "0", "1"), []*appsv1.ReplicaSet{sizedFor(replicaSet("new", 0, 5, 5), 5, 5)}, "new-0:5→10"},
		{"the only one, to none", rolls(0, "0", "1"), []*appsv1.ReplicaSet{sizedFor(replicaSet("new", 0, 5, 5), 5, 5)}, "new-0:5→0"},
		{"the newest of none", rolls(4, "0", "1"), []*appsv1.ReplicaSet{replicaSet("old", 0, 0, 0), replicaSet("new", 1, 0, 0)}, "new-1:0→4"},
		{"the youngest where none is new", rolls(4, "0", "1"), []*appsv1.ReplicaSet{replicaSet("a", 0, 0, 0), replicaSet("b", 1, 0, 0)}, "b-1:0→4"},
		{"up by half", rolls(15, "0", "1"), []*appsv1.ReplicaSet{sizedFor(replicaSet("old", 0, 5, 5), 10, 10), sizedFor(replicaSet("new", 1, 5, 5), 10, 10)}, "new-1:5→8 old-0:5→7"},
		{"down by half", rolls(5, "0", "1"), []*appsv1.ReplicaSet{sizedFor(replicaSet("old", 0, 5, 5), 10, 10), sizedFor(replicaSet("new", 1, 5, 5), 10, 10)}, "old-0:5→2 new-1:5→3"},
		{"with a surge", rolls(20, "50%", "0"), []*appsv1.ReplicaSet{sizedFor(replicaSet("old", 0, 10, 10), 10, 15), sizedFor(replicaSet("new", 1, 5, 0), 10, 15)}, "old-0:10→20 new-1:5→10"},
		{"down to none", rolls(0, "0", "1"), []*appsv1.ReplicaSet{sizedFor(replicaSet("old", 0, 3, 3), 5, 5), sizedFor(replicaSet("new", 1, 2, 2), 5, 5)}, "old-0:3→0 new-1:2→0"},
		{"what rounding leaves goes to the largest", rolls(11, "0", "1"), []*appsv1.ReplicaSet{sizedFor(replicaSet("old", 0, 8, 8), 10, 10), sizedFor(replicaSet("new", 1, 2, 2), 10, 10)}, "old-0:8→9 new-1:2→2"},
		{"the new one is enough", rolls(5, "0", "1"), []*appsv1.ReplicaSet{replicaSet("old", 0, 3, 3), sizedFor(replicaSet("new", 1, 5, 5), 5, 5)}, "old-0:3→0"},
		{"nothing to remember", rolls(5, "0", "1"), []*appsv1.ReplicaSet{sizedFor(replicaSet("new", 0, 5, 5), 5, 5)}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := steps(newRollout(c.d, c.sets, now).proportional()); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestSurplus(t *testing.T) {
	at := func(rs *appsv1.ReplicaSet, revision string) *appsv1.ReplicaSet {
		rs.Annotations[revisionAnnotation] = revision
		return rs
	}
	d := rolls(1, "1", "0")
	d.Spec.RevisionHistoryLimit = new(int32(1))
	deleted := at(replicaSet("f", 9, 0, 0), "1")
	deleted.DeletionTimestamp = &metav1.Time{Time: now}
	unseen := at(replicaSet("e", 8, 0, 0), "2")
	unseen.Generation = 2
	ro := newRollout(d, []*appsv1.ReplicaSet{
		at(replicaSet("a", 3, 0, 0), "3"), at(replicaSet("b", 1, 0, 0), "10"), at(replicaSet("c", 2, 1, 1), "4"), unseen, deleted, replicaSet("new", 5, 1, 1),
	}, now)
	var got []string
	for _, rs := range ro.surplus() {
		got = append(got, rs.Name)
	}
	if strings.Join(got, " ") != "a-3" {
		t.Errorf("to be deleted: %q", got)
	}
	if d.Spec.RevisionHistoryLimit = nil; len(ro.surplus()) != 0 {
		t.Error("without a limit something was deleted")
	}
}

func TestHistory(t *testing.T) {
	rs := replicaSet("x", 0, 1, 1)
	d := rolls(1, "1", "0")
	d.Annotations = map[string]string{
		"example.com/a": "b", corev1.LastAppliedConfigAnnotation: "{}", revisionAnnotation: "7", desiredReplicas: "9",
	}
	for _, next := range []int64{1, 3, 4} {
		annotateNew(rs, d, next)
	}
	annotateNew(rs, d, 2) // an old one changes nothing
	want := map[string]string{"example.com/a": "b", revisionAnnotation: "4", revisionHistory: "1,3"}
	if fmt.Sprint(rs.Annotations) != fmt.Sprint(want) {
		t.Errorf("annotations %v, want %v", rs.Annotations, want)
	}
	long := strings.Repeat("1000,", 399) + "1000" // 1999 characters
	if got := lengthen(long, "2000"); len(got) > longestHistory || !strings.HasSuffix(got, ",1000,2000") {
		t.Errorf("%d characters that end in %q", len(got), got[len(got)-10:])
	}
}

func TestSetName(t *testing.T) {
	for _, c := range []struct{ length, want int }{{5, 5}, {242, 242}, {250, 242}} {
		got := setName(strings.Repeat("a", c.length), "1234567890")
		if got != strings.Repeat("a", c.want)+"-1234567890" {
			t.Errorf("%d: %s", c.length, got)
		}
	}
}

func TestTemplateHash(t *testing.T) {
	a, b := rolls(1, "1", "0").Spec.Template, rolls(1, "1", "0").Spec.Template
	a.Labels = map[string]string{"a": "1", "b": "2", "c": "3"}
	b.Labels = map[string]string{"c": "3", "b": "2", "a": "1"}
	if templateHash(&a, nil) != templateHash(&b, nil) {
		t.Error("equal templates differ")
	}
	if templateHash(&a, nil) == templateHash(&a, new(int32(1))) {
		t.Error("a collision changes nothing")
	}
	b.Spec.Containers[0].Image = "other"
	if templateHash(&a, nil) == templateHash(&b, nil) {
		t.Error("different templates are the same")
	}
}
