package config

import (
	"fmt"
	"time"
)

// Configuration is what of a kubelet's configuration (kubelet.config.k8s.io/v1beta1)
// these settings are, by its names.
func (k Kubelet) Configuration() map[string]any {
	groups := []map[string]any{}
	for _, g := range k.Shutdown.ByPriority {
		groups = append(groups, map[string]any{"priority": g.Priority, "shutdownGracePeriodSeconds": int64(g.Time / time.Second)})
	}
	swap := map[string]any{}
	if k.Swap.Behavior != "" {
		swap["swapBehavior"] = k.Swap.Behavior
	}
	out := map[string]any{
		"evictionHard":                     texts(k.EvictionHard),
		"evictionSoft":                     texts(k.EvictionSoft),
		"evictionSoftGracePeriod":          texts(k.SoftGrace),
		"evictionMinimumReclaim":           texts(k.MinimumReclaim),
		"evictionPressureTransitionPeriod": k.PressureTransition.String(),
		"evictionMaxPodGracePeriod":        k.MaxPodGrace,
		"imageGCHighThresholdPercent":      k.ImageGCHigh,
		"imageGCLowThresholdPercent":       k.ImageGCLow,
		"imageMinimumGCAge":                k.ImageMinimumAge.String(),
		"shutdownGracePeriod":              k.Shutdown.Grace.String(),
		"shutdownGracePeriodCriticalPods":  k.Shutdown.Critical.String(),
		"memorySwap":                       swap,
		"failSwapOn":                       k.Swap.FailOn,
		"serializeImagePulls":              k.Pulls.Serialize,
		"registryPullQPS":                  k.Pulls.QPS,
		"registryBurst":                    k.Pulls.Burst,
		"maxPods":                          k.Pods.Max,
		"seccompDefault":                   k.Pods.SeccompDefault,
		"singleProcessOOMKill":             k.Pods.KillOne,
		"containerLogMaxSize":              k.Pods.logSize(),
		"containerLogMaxFiles":             k.Pods.LogFiles,
	}
	if k.Pulls.MaxParallel > 0 {
		out["maxParallelImagePulls"] = k.Pulls.MaxParallel
	}
	if len(groups) > 0 {
		out["shutdownGracePeriodByPodPriority"] = groups
	}
	return out
}

// String is the amount as it is asked for.
func (a Amount) String() string {
	if a.Percent > 0 {
		return fmt.Sprintf("%g%%", a.Percent)
	}
	return a.Quantity.String()
}

func texts[V fmt.Stringer](all map[string]V) map[string]string {
	out := map[string]string{}
	for name, v := range all {
		out[name] = v.String()
	}
	return out
}
