package kind

import corev1 "k8s.io/api/core/v1"

// AppArmorProfile is the profile that a container of a Pod is to run under: its own,
// else the one of the older annotation, which Pods that never passed the API may
// have alone, else the Pod's; nil: none is named.
func AppArmorProfile(pod *corev1.Pod, c *corev1.Container) *corev1.AppArmorProfile {
	if c.SecurityContext != nil && c.SecurityContext.AppArmorProfile != nil {
		return c.SecurityContext.AppArmorProfile
	}
	if value, ok := olderAppArmor(pod.Annotations, c); ok {
		if profile := appArmorField(value); profile != nil {
			return profile
		}
	}
	return podAppArmor(&pod.Spec)
}
