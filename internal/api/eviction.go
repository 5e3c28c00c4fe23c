package api

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/kind"
)

// Evict deletes the Pod that the Request names, with the eviction's options.
func (a *API) Evict(ctx context.Context, req Request, eviction *policyv1.Eviction) error {
	if req.Name == "" {
		req.Name = eviction.Name
	}
	if eviction.Name != "" && eviction.Name != req.Name {
		return apierrors.NewBadRequest("name in URL does not match name in Eviction object")
	}
	var options metav1.DeleteOptions
	if eviction.DeleteOptions != nil {
		options = *eviction.DeleteOptions
	}
	for _, d := range options.DryRun {
		req.DryRun = req.DryRun || d == metav1.DryRunAll
	}
	req.Kind, req.Subresource = kind.Pod, "eviction"
	pod, err := a.markEvicted(ctx, &req, options, eviction)
	if err != nil {
		return err
	}
	if want := options.Preconditions; want != nil && want.ResourceVersion != nil {
		// The mark has made the Pod a newer one than that which was meant.
		marked := *want
		marked.ResourceVersion = new(pod.GetResourceVersion())
		options.Preconditions = &marked
	}
	req.Subresource = ""
	_, _, err = a.Delete(ctx, req, options)
	return err
}

// markEvicted notes in the Pod why it ends (KEP-3329), unless it has ended or
// is about to anyway, and returns the Pod.
func (a *API) markEvicted(ctx context.Context, req *Request, options metav1.DeleteOptions, eviction *policyv1.Eviction) (kind.Object, error) {
	return a.edit(ctx, req, eviction, func(obj kind.Object) error {
		pod := obj.(*corev1.Pod)
		if err := checkPreconditions(req, pod, options.Preconditions); err != nil {
			return err
		}
		if ended(pod) {
			return nil
		}
		kind.SetPodCondition(pod, corev1.PodCondition{
			Type:    corev1.DisruptionTarget,
			Status:  corev1.ConditionTrue,
			Reason:  "EvictionByEvictionAPI",
			Message: "Eviction API: evicting",
		}, a.now())
		return nil
	})
}

func ended(pod *corev1.Pod) bool {
	switch pod.Status.Phase {
	case corev1.PodSucceeded, corev1.PodFailed, corev1.PodPending:
		return true
	}
	return pod.DeletionTimestamp != nil
}
