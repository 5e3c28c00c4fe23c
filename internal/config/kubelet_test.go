package config

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

func TestKubeletArguments(t *testing.T) {
	k, err := ParseKubelet([]string{
		"eviction-hard=memory.available<5%,nodefs.available<1Gi", "--eviction-minimum-reclaim=nodefs.available=500Mi",
		"eviction-pressure-transition-period=30s", "kube-reserved=cpu=100m", "memory=1Gi", "system-reserved=memory=500Mi",
	})
	if err != nil {
		t.Fatal(err)
	}
	memory := k.KubeReserved[corev1.ResourceMemory]
	if len(k.EvictionHard) != 2 || k.EvictionHard["memory.available"].Of(1000) != 50 || k.EvictionHard["nodefs.available"].Of(1) != 1<<30 ||
		k.MinimumReclaim["nodefs.available"].Of(0) != 500<<20 || k.PressureTransition != 30*time.Second || memory.Value() != 1<<30 {
		t.Errorf("got %+v", k)
	}
	if k, err := ParseKubelet(nil); err != nil || k.EvictionHard["nodefs.available"].Of(100) != 5 || k.EvictionHard["memory.available"].Of(0) != 100<<20 {
		t.Errorf("defaults %+v, %v", k, err)
	}
	for arg, want := range map[string]string{
		"cpu-manager-policy=static":               `"cpu-manager-policy" is none that this node knows; it knows allowed-unsafe-sysctls, config, `,
		"image-gc-high-threshold=70":              "must be below",
		"kube-reserved=gpu=1":                     "expected one of cpu, memory,",
		"eviction-pressure-transition-period=-3s": "negative",
	} {
		if _, err := ParseKubelet([]string{arg}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", arg, err)
		}
	}
}
