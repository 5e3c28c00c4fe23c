package deployment

import (
	"context"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"

	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
)

// The annotations of a rollout's history, which kubectl rollout reads.
const (
	revisionAnnotation = "deployment.kubernetes.io/revision"
	revisionHistory    = "deployment.kubernetes.io/revision-history"
)

// longestHistory is how many characters of it are kept, as upstream.
const longestHistory = 2000

// notCopied are annotations of a Deployment that its ReplicaSets do not get.
var notCopied = []string{
	corev1.LastAppliedConfigAnnotation, revisionAnnotation, revisionHistory,
	desiredReplicas, maxReplicas, "deprecated.deployment.rollback.to",
}

func revision(rs *appsv1.ReplicaSet) int64 {
	n, err := strconv.ParseInt(rs.Annotations[revisionAnnotation], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// nextRevision is one more than any old ReplicaSet's.
func (ro *rollout) nextRevision() int64 {
	most := int64(0)
	for _, rs := range ro.old {
		most = max(most, revision(rs))
	}
	return most + 1
}

// annotateNew gives the new ReplicaSet the Deployment's annotations and the
// revision; an earlier revision of the same template goes into its history.
func annotateNew(rs *appsv1.ReplicaSet, d *appsv1.Deployment, next int64) {
	annotations := maps.Clone(rs.Annotations)
	if annotations == nil {
		annotations = map[string]string{}
	}
	for key, value := range d.Annotations {
		if !slices.Contains(notCopied, key) {
			annotations[key] = value
		}
	}
	if old := revision(rs); old < next {
		if old > 0 {
			annotations[revisionHistory] = lengthen(annotations[revisionHistory], strconv.FormatInt(old, 10))
		}
		annotations[revisionAnnotation] = strconv.FormatInt(next, 10)
	}
	rs.Annotations = annotations
}

// lengthen adds a revision to a history and takes the oldest ones out of one
// that has become too long.
func lengthen(history, revision string) string {
	if history == "" {
		return revision
	}
	history += "," + revision
	for len(history) > longestHistory {
		_, history, _ = strings.Cut(history, ",")
	}
	return history
}

// follow brings the new ReplicaSet's revision and settings up to date; with
// create it makes the ReplicaSet where there is none.
func (r reconciler) follow(ctx context.Context, ro *rollout, create bool) error {
	next := ro.nextRevision()
	if ro.new == nil {
		if !create {
			return nil
		}
		if err := r.create(ctx, ro, next); err != nil {
			return err
		}
	}
	fresh := ro.new.DeepCopy()
	annotateNew(fresh, ro.d, next)
	if fresh.Spec.MinReadySeconds != ro.d.Spec.MinReadySeconds || !equality.Semantic.DeepEqual(fresh.Annotations, ro.new.Annotations) {
		changed, err := r.modify(ctx, ro.new, func(live *appsv1.ReplicaSet) error {
			annotateNew(live, ro.d, next)
			live.Spec.MinReadySeconds = ro.d.Spec.MinReadySeconds
			return nil
		})
		if err != nil {
			return fmt.Errorf("annotate ReplicaSet %s: %w", ro.new.Name, err)
		}
		ro.new = changed
	}
	if condition(ro.d.Status.Conditions, appsv1.DeploymentProgressing) == nil && len(ro.conditions) == 0 {
		ro.add(appsv1.DeploymentProgressing, corev1.ConditionTrue, "FoundNewReplicaSet", "Found new replica set %q", ro.new.Name)
	}
	return r.annotateDeployment(ctx, ro)
}

func (r reconciler) annotateDeployment(ctx context.Context, ro *rollout) error {
	want := ro.new.Annotations[revisionAnnotation]
	if ro.d.Annotations[revisionAnnotation] == want {
		return nil
	}
	obj, err := r.env.API.Modify(ctx, r.request(kind.Deployment, ro.d.Namespace, ro.d.Name, ""), func(obj kind.Object) error {
		annotations := obj.GetAnnotations()
		if annotations == nil {
			annotations = map[string]string{}
		}
		annotations[revisionAnnotation] = want
		obj.SetAnnotations(annotations)
		return nil
	})
	if err != nil {
		return fmt.Errorf("annotate Deployment: %w", err)
	}
	ro.d = obj.(*appsv1.Deployment)
	return nil
}

// create makes the ReplicaSet of the current template.
func (r reconciler) create(ctx context.Context, ro *rollout, next int64) error {
	rs := ro.newSet(next)
	obj, err := r.env.API.Create(ctx, r.request(kind.ReplicaSet, rs.Namespace, "", ""), rs)
	switch {
	case apierrors.IsAlreadyExists(err):
		return r.resolveCollision(ctx, ro, rs.Name)
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return err
	case err != nil:
		ro.add(appsv1.DeploymentProgressing, corev1.ConditionFalse, "ReplicaSetCreateError",
			"Failed to create new replica set %q: %v", rs.Name, err)
		r.events.Event(ctx, kind.Deployment, ro.d, corev1.EventTypeWarning, "ReplicaSetCreateError",
			"Failed to create new replica set %q: %v", rs.Name, err)
		if _, statusErr := r.writeStatus(ctx, ro); statusErr != nil {
			return statusErr
		}
		return err
	}
	ro.new = obj.(*appsv1.ReplicaSet)
	if n := *ro.new.Spec.Replicas; n > 0 {
		r.events.Event(ctx, kind.Deployment, ro.d, corev1.EventTypeNormal, "ScalingReplicaSet",
			"Scaled up replica set %s from 0 to %d", ro.new.Name, n)
	}
	ro.add(appsv1.DeploymentProgressing, corev1.ConditionTrue, "NewReplicaSetCreated", "Created new replica set %q", ro.new.Name)
	return nil
}

// resolveCollision is for a name that is taken: by our own ReplicaSet of this
// template (then the next look finds it), or by another one, whose hash
// happens to be the same; then the next try hashes differently.
func (r reconciler) resolveCollision(ctx context.Context, ro *rollout, taken string) error {
	rs, ok := state.Get[*appsv1.ReplicaSet](r.env.State, kind.ReplicaSet, ro.d.Namespace, taken)
	if ok && (!metav1.IsControlledBy(rs, ro.d) || !sameTemplate(rs, ro.d)) {
		count := int32(1)
		if ro.collisionCount != nil {
			count += *ro.collisionCount
		}
		ro.collisionCount = &count
		if _, err := r.writeStatus(ctx, ro); err != nil {
			return err
		}
	}
	return apierrors.NewConflict(kind.ReplicaSet.GroupResource(), taken, fmt.Errorf("the name is taken"))
}

// newSet is the ReplicaSet of the current template.
func (ro *rollout) newSet(next int64) *appsv1.ReplicaSet {
	d := ro.d
	template := d.Spec.Template.DeepCopy()
	hash := templateHash(template, ro.collisionCount)
	template.Labels = maps.Clone(template.Labels)
	if template.Labels == nil {
		template.Labels = map[string]string{}
	}
	template.Labels[appsv1.DefaultDeploymentUniqueLabelKey] = hash
	selector := d.Spec.Selector.DeepCopy()
	if selector.MatchLabels == nil {
		selector.MatchLabels = map[string]string{}
	}
	selector.MatchLabels[appsv1.DefaultDeploymentUniqueLabelKey] = hash
	replicas := ro.newReplicas()
	rs := &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{
			Name:            setName(d.Name, hash),
			Namespace:       d.Namespace,
			Labels:          maps.Clone(template.Labels),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(d, kind.Deployment.GVK())},
		},
		Spec: appsv1.ReplicaSetSpec{
			Replicas:        &replicas,
			MinReadySeconds: d.Spec.MinReadySeconds,
			Selector:        selector,
			Template:        *template,
		},
	}
	annotateNew(rs, d, next)
	setReplicasAnnotations(rs, *d.Spec.Replicas, *d.Spec.Replicas+ro.maxSurge())
	return rs
}

// setName is the name of a ReplicaSet; that of a Deployment whose own is as long
// as names may be is cut.
func setName(deployment, hash string) string {
	return deployment[:min(len(deployment), 253-1-len(hash))] + "-" + hash
}

// templateHash names a template: equal ones get equal texts of letters that
// make no words.
func templateHash(template *corev1.PodTemplateSpec, collisions *int32) string {
	h := fnv.New32a()
	encoded, err := template.Marshal()
	if err != nil {
		panic(fmt.Sprintf("a decoded template cannot be encoded: %v", err))
	}
	h.Write(encoded)
	if collisions != nil {
		fmt.Fprintf(h, "%d", *collisions)
	}
	return rand.SafeEncodeString(strconv.FormatUint(uint64(h.Sum32()), 10))
}

// surplus returns the old ReplicaSets beyond the history's limit, lowest
// revisions first, of those that are empty and settled.
func (ro *rollout) surplus() []*appsv1.ReplicaSet {
	if ro.d.Spec.RevisionHistoryLimit == nil {
		return nil
	}
	var list []*appsv1.ReplicaSet
	for _, rs := range ro.old {
		if rs.DeletionTimestamp == nil {
			list = append(list, rs)
		}
	}
	slices.SortStableFunc(list, func(a, b *appsv1.ReplicaSet) int { return int(revision(a) - revision(b)) })
	n := len(list) - int(*ro.d.Spec.RevisionHistoryLimit)
	if n <= 0 {
		return nil
	}
	return slices.DeleteFunc(list[:n:n], func(rs *appsv1.ReplicaSet) bool {
		return rs.Status.Replicas != 0 || *rs.Spec.Replicas != 0 || rs.Generation > rs.Status.ObservedGeneration
	})
}
