package endpointslice

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// trigger remembers the times that a Service's slices were made of, so that
// those who program the network can tell how late they are: the annotation
// endpoints.kubernetes.io/last-change-trigger-time.
type trigger struct {
	service time.Time
	pods    map[string]time.Time // when each became ready or not, by name
}

// after returns what is to be remembered now, and the earliest of the times that
// are new, the zero time if none is.
func (t trigger) after(svc *corev1.Service, pods []*corev1.Pod) (next trigger, since time.Time) {
	next = trigger{service: svc.CreationTimestamp.Time, pods: make(map[string]time.Time, len(pods))}
	earlier := func(at, before time.Time) {
		if at.After(before) && (since.IsZero() || at.Before(since)) {
			since = at
		}
	}
	for _, pod := range pods {
		for _, c := range pod.Status.Conditions {
			if c.Type == corev1.PodReady && !c.LastTransitionTime.IsZero() {
				next.pods[pod.Name] = c.LastTransitionTime.Time
				earlier(c.LastTransitionTime.Time, t.pods[pod.Name])
			}
		}
	}
	earlier(next.service, t.service)
	return next, since
}
