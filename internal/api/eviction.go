package api

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/skiff-sh/skiff/internal/kind"
)

// Evict deletes the Pod that the Request names, with the eviction's options.
func (a *API) Evict(ctx context.Context, req Request, eviction *policyv1.Eviction) error {
	eviction = eviction.DeepCopy() // admission completes it
	singleOwners(&req, eviction, "")
	if eviction.Name != req.Name {
		return apierrors.NewBadRequest("name in URL does not match name in Eviction object")
	}
	var options metav1.DeleteOptions
	if eviction.DeleteOptions != nil {
		options = *eviction.DeleteOptions
	}
	if err := checkEviction(&req, eviction.Name, &options); err != nil {
		return err
	}
	req.Kind, req.Subresource = kind.Pod, "eviction"
	pod, err := a.markEvicted(ctx, &req, &options, eviction)
	if err != nil {
		return err
	}
	if want := options.Preconditions; withoutEmpty(want).ResourceVersion != nil && !req.DryRun {
		// The mark has made the Pod a newer one than that which was meant.
		want.ResourceVersion = new(pod.GetResourceVersion())
	}
	req.Subresource = ""
	_, _, err = a.Delete(ctx, req, options)
	return err
}

// checkEviction checks the options, and lets either of request and eviction ask
// for a dry run.
func checkEviction(req *Request, name string, options *metav1.DeleteOptions) error {
	if ignore := options.IgnoreStoreReadErrorWithClusterBreakingPotential; ignore != nil && *ignore {
		return apierrors.NewInvalid(policyv1.SchemeGroupVersion.WithKind("Eviction").GroupKind(), name, field.ErrorList{
			field.Invalid(field.NewPath("deleteOptions", "ignoreStoreReadErrorWithClusterBreakingPotential"), true, "can not be set for pod eviction, try after removing the option"),
		})
	}
	all := []string{metav1.DryRunAll}
	if req.DryRun && len(options.DryRun) > 0 && !slices.Equal(options.DryRun, all) {
		return &apierrors.StatusError{ErrStatus: metav1.Status{
			Status: metav1.StatusFailure, Code: 500,
			Message: fmt.Sprintf("Non-matching dry-run options in request and content: %v and %v", all, options.DryRun),
		}}
	}
	req.DryRun = req.DryRun || len(options.DryRun) > 0 // whatever it says: upstream looks no closer
	return nil
}

// markEvicted notes in the Pod why it ends (KEP-3329) and returns it.
func (a *API) markEvicted(ctx context.Context, req *Request, options *metav1.DeleteOptions, eviction *policyv1.Eviction) (kind.Object, error) {
	return a.edit(ctx, req, eviction, func(obj kind.Object) error {
		pod := obj.(*corev1.Pod)
		if req.DryRun {
			return nil // the deletion checks the options, then the preconditions
		}
		if err := checkPreconditions(req, pod, withoutEmpty(options.Preconditions)); err != nil {
			return err
		}
		setCondition(pod, corev1.PodCondition{
			Type:    corev1.DisruptionTarget,
			Status:  corev1.ConditionTrue,
			Reason:  "EvictionByEvictionAPI",
			Message: "Eviction API: evicting",
		}, a.now())
		return nil
	})
}

// withoutEmpty are the preconditions that the mark heeds: an empty one stands only in the
// way of the deletion, as with upstream.
func withoutEmpty(all *metav1.Preconditions) *metav1.Preconditions {
	some := new(metav1.Preconditions)
	if all != nil && all.UID != nil && *all.UID != "" {
		some.UID = all.UID
	}
	if all != nil && all.ResourceVersion != nil && *all.ResourceVersion != "" {
		some.ResourceVersion = all.ResourceVersion
	}
	return some
}
