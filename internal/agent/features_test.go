package agent

import (
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/component-helpers/nodedeclaredfeatures"
)

// gates are upstream's of 1.36 that are on by default.
type gates []string

func (g gates) Enabled(name string) bool { return slices.Contains(g, name) }

// The names are those that upstream's kubelet would find.
func TestDeclaredFeatures(t *testing.T) {
	want := nodedeclaredfeatures.DefaultFramework.DiscoverNodeFeatures(&nodedeclaredfeatures.NodeConfiguration{
		Version: version.MustParse("1.36.3"), FeatureGates: gates{
			"ExtendWebSocketsToKubelet", "InPlacePodVerticalScalingInitContainers", "InPlacePodLevelResourcesVerticalScaling",
			"RestartAllContainersOnContainerExits",
		},
	})
	if got := declaredFeatures(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
