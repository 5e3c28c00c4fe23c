package agent

import "github.com/skiff-sh/skiff/internal/kind"

// declaredFeatures are what upstream's kubelet of this version says of itself by default
// and this node does, too, in their order (KEP-5328): the scheduler and the admission
// of resizes ask for them.
func declaredFeatures() []string {
	return []string{
		"ExtendWebSocketsToKubelet",
		"InPlacePodLevelResourcesVerticalScaling",
		"InPlacePodVerticalScalingInitContainers",
		kind.RestartsAll,
	}
}
