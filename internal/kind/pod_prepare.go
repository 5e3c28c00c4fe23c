package kind

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// preparePodCreate gives a new Pod the status it begins with, and makes its
// spec what schedulers and nodes read: label keys turned into selectors, the
// AppArmor annotation into its field.
func preparePodCreate(pod *corev1.Pod) {
	pod.Generation = 1
	class := pod.Status.QOSClass // the one part of the status that upstream lets in
	if class == "" {
		class = qosClass(pod)
	}
	pod.Status = corev1.PodStatus{Phase: corev1.PodPending, QOSClass: class}
	if len(pod.Spec.SchedulingGates) > 0 {
		pod.Status.Conditions = []corev1.PodCondition{{
			Type:    corev1.PodScheduled,
			Status:  corev1.ConditionFalse,
			Reason:  corev1.PodReasonSchedulingGated,
			Message: "Scheduling is blocked due to non-empty scheduling gates",

			LastTransitionTime: pod.CreationTimestamp, // now: functions of a kind ask no clock
		}}
	}
	dropDisabled(&pod.Spec)
	matchServiceAccount(&pod.Spec)
	mergeLabelKeys(pod)
	copyAppArmorAnnotations(pod)
}

// preparePodUpdate keeps the status, which has an update of its own.
func preparePodUpdate(pod, old *corev1.Pod) {
	pod.Status = *old.Status.DeepCopy()
	dropDisabled(&pod.Spec)
	raisePodGeneration(pod, old)
}

func raisePodGeneration(pod, old *corev1.Pod) {
	pod.Generation = old.Generation
	if !equality.Semantic.DeepEqual(pod.Spec, old.Spec) {
		pod.Generation++
	}
}

// preparePodStatus keeps all but the status. Owner references are kept too:
// old nodes sent them back broken.
func preparePodStatus(pod, old *corev1.Pod) {
	pod.Spec = *old.Spec.DeepCopy()
	pod.Generation = old.Generation
	pod.DeletionTimestamp = old.DeletionTimestamp.DeepCopy()
	pod.OwnerReferences = old.DeepCopy().OwnerReferences
	orDefault(&pod.Status.QOSClass, old.Status.QOSClass)
	orDefault(&pod.Status.ObservedGeneration, old.Status.ObservedGeneration)
	keepObserved(pod.Status.Conditions, old.Status.Conditions)
	dropDisabledStatus(&pod.Status)
}

// dropDisabledStatus removes what belongs to features that 1.36 leaves off:
// digests of image volumes, and claims on what nodes can allocate.
func dropDisabledStatus(status *corev1.PodStatus) {
	status.NodeAllocatableResourceClaimStatuses = nil
	for _, list := range [][]corev1.ContainerStatus{status.ContainerStatuses, status.InitContainerStatuses, status.EphemeralContainerStatuses} {
		for i := range list {
			for j := range list[i].VolumeMounts {
				list[i].VolumeMounts[j].VolumeStatus = nil
			}
		}
	}
}

// keepObserved fills in which generation a condition was seen at where a client
// that does not know the field has cleared it. A type may occur more than once.
func keepObserved(conditions, old []corev1.PodCondition) {
	generations := map[corev1.PodConditionType][]int64{}
	for _, c := range old {
		generations[c.Type] = append(generations[c.Type], c.ObservedGeneration)
	}
	for i := range conditions {
		c := &conditions[i]
		if of := generations[c.Type]; len(of) > 0 {
			orDefault(&c.ObservedGeneration, of[0])
			generations[c.Type] = of[1:]
		}
	}
}

// preparePodEphemeral keeps all but the ephemeral containers.
func preparePodEphemeral(pod, old *corev1.Pod) {
	added := pod.Spec.EphemeralContainers
	pod.Spec = *old.Spec.DeepCopy()
	pod.Status = *old.Status.DeepCopy()
	metav1.ResetObjectMetaForStatus(pod, old.DeepCopy())
	pod.Spec.EphemeralContainers = added
	dropDisabled(&pod.Spec)
	raisePodGeneration(pod, old)
}

// canonicalPodSpec makes an empty list of what is projected, whose field is always told,
// the none that the store gives back.
func canonicalPodSpec(spec *corev1.PodSpec) {
	for _, v := range spec.Volumes {
		if v.Projected != nil && len(v.Projected.Sources) == 0 {
			v.Projected.Sources = nil
		}
	}
}

// dropDisabled removes fields of features that 1.36 has but leaves off, as
// upstream's server does: stop signals, scheduling groups, and certificates and
// trust bundles as volumes.
func dropDisabled(spec *corev1.PodSpec) {
	spec.SchedulingGroup = nil
	eachContainer(nil, spec, func(_ *field.Path, c *corev1.Container) {
		if c.Lifecycle != nil && c.Lifecycle.StopSignal != nil {
			if c.Lifecycle.StopSignal = nil; *c.Lifecycle == (corev1.Lifecycle{}) {
				c.Lifecycle = nil
			}
		}
	})
	for i := range spec.Volumes {
		if spec.Volumes[i].Projected == nil {
			continue
		}
		for j := range spec.Volumes[i].Projected.Sources {
			source := &spec.Volumes[i].Projected.Sources[j]
			source.ClusterTrustBundle, source.PodCertificate = nil, nil
		}
	}
}

// mergeLabelKeys adds to selectors what the Pod's own labels say of the keys
// that they are to match, or not to match.
func mergeLabelKeys(pod *corev1.Pod) {
	merge := func(selector *metav1.LabelSelector, keys []string, operator metav1.LabelSelectorOperator) {
		if selector == nil {
			return
		}
		for _, key := range keys {
			if value, ok := pod.Labels[key]; ok {
				selector.MatchExpressions = append(selector.MatchExpressions, metav1.LabelSelectorRequirement{
					Key: key, Operator: operator, Values: []string{value},
				})
			}
		}
	}
	for _, term := range podTerms(pod.Spec.Affinity) {
		merge(term.LabelSelector, term.MatchLabelKeys, metav1.LabelSelectorOpIn)
		merge(term.LabelSelector, term.MismatchLabelKeys, metav1.LabelSelectorOpNotIn)
	}
	for i := range pod.Spec.TopologySpreadConstraints {
		c := &pod.Spec.TopologySpreadConstraints[i]
		merge(c.LabelSelector, c.MatchLabelKeys, metav1.LabelSelectorOpIn)
	}
}

// podTerms returns every term that is about other Pods.
func podTerms(affinity *corev1.Affinity) []*corev1.PodAffinityTerm {
	if affinity == nil {
		return nil
	}
	var terms []*corev1.PodAffinityTerm
	add := func(must []corev1.PodAffinityTerm, may []corev1.WeightedPodAffinityTerm) {
		for i := range must {
			terms = append(terms, &must[i])
		}
		for i := range may {
			terms = append(terms, &may[i].PodAffinityTerm)
		}
	}
	if a := affinity.PodAffinity; a != nil {
		add(a.RequiredDuringSchedulingIgnoredDuringExecution, a.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	if a := affinity.PodAntiAffinity; a != nil {
		add(a.RequiredDuringSchedulingIgnoredDuringExecution, a.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	return terms
}

// copyAppArmorAnnotations gives containers without the field what the
// annotation from before it says, unless the Pod as a whole says the same.
func copyAppArmorAnnotations(pod *corev1.Pod) {
	if pod.Spec.OS != nil && pod.Spec.OS.Name == corev1.Windows {
		return
	}
	if len(pod.Annotations) == 0 {
		return
	}
	own := podAppArmor(&pod.Spec)
	eachContainer(nil, &pod.Spec, func(_ *field.Path, c *corev1.Container) {
		value, ok := olderAppArmor(pod.Annotations, c)
		if !ok {
			return
		}
		profile := appArmorProfile(value)
		if profile == nil || equality.Semantic.DeepEqual(profile, own) {
			return
		}
		if c.SecurityContext == nil {
			c.SecurityContext = &corev1.SecurityContext{}
		}
		c.SecurityContext.AppArmorProfile = profile
	})
}

func podAppArmor(spec *corev1.PodSpec) *corev1.AppArmorProfile {
	if spec.SecurityContext == nil {
		return nil
	}
	return spec.SecurityContext.AppArmorProfile
}

// olderAppArmor returns the annotation of a container that has no field.
func olderAppArmor(annotations map[string]string, c *corev1.Container) (value string, ok bool) {
	if c.SecurityContext != nil && c.SecurityContext.AppArmorProfile != nil {
		return "", false
	}
	value, ok = annotations[corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix+c.Name]
	return value, ok
}

// appArmorProfile reads the annotation's value; nil where it says nothing good.
func appArmorProfile(value string) *corev1.AppArmorProfile {
	profile := appArmorField(value)
	if profile == nil || len(validateAppArmor(field.NewPath("profile"), profile)) > 0 {
		return nil
	}
	return profile
}

// appArmorField is the annotation's value as the field would have it.
func appArmorField(value string) *corev1.AppArmorProfile {
	switch value {
	case corev1.DeprecatedAppArmorBetaProfileNameUnconfined:
		return &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeUnconfined}
	case corev1.DeprecatedAppArmorBetaProfileRuntimeDefault:
		return &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeRuntimeDefault}
	}
	name, ok := strings.CutPrefix(value, corev1.DeprecatedAppArmorBetaProfileNamePrefix)
	if !ok || name == "" {
		return nil
	}
	return &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeLocalhost, LocalhostProfile: &name}
}
