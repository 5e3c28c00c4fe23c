package config

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestThresholds(t *testing.T) {
	tests := map[string]struct {
		args []string
		want []string
	}{
		"by default": {nil, []string{
			"memory.available 100Mi 0 after 0s", "allocatableMemory.available 100Mi 0 after 0s",
			"nodefs.available 5% 10% after 0s", "imagefs.available 5% 10% after 0s",
			"nodefs.inodesFree 5% 0 after 0s", "imagefs.inodesFree 5% 0 after 0s", "pid.available 5% 0 after 0s",
		}},
		"none": {[]string{"eviction-hard="}, nil},
		"soft after hard": {[]string{
			"eviction-hard=memory.available<100Mi", "eviction-soft=memory.available<300Mi,nodefs.available<10%",
			"eviction-soft-grace-period=memory.available=1m30s,nodefs.available=2m", "eviction-minimum-reclaim=memory.available=50Mi",
		}, []string{
			"memory.available 100Mi 50Mi after 0s", "memory.available 300Mi 50Mi after 1m30s",
			"allocatableMemory.available 100Mi 50Mi after 0s", "nodefs.available 10% 0 after 2m0s",
		}},
		"given again it is more": {[]string{"eviction-hard=nodefs.available<1%", "eviction-hard=pid.available<10"}, []string{
			"nodefs.available 1% 10% after 0s", "pid.available 10 0 after 0s",
		}},
		"turned off": {[]string{"eviction-hard=nodefs.available<0%,imagefs.available<100%,pid.available<1"}, []string{"pid.available 1 0 after 0s"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			k, err := ParseKubelet(tt.args)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, s := range k.Thresholds() {
				got = append(got, fmt.Sprintf("%s %s %s after %s", s.Signal, s.Least, s.Reclaim, s.Grace))
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q", got)
			}
		})
	}
}

func TestThresholdMistakes(t *testing.T) {
	for arg, want := range map[string]string{
		"eviction-hard=memory<5":                           "unsupported eviction signal memory; there are memory.available, ",
		"eviction-hard=memory.available":                   "malformed pair, expect string<string",
		"eviction-hard=memory.available<x":                 "quantities must match the regular expression",
		"eviction-hard=memory.available<200%":              "eviction percentage threshold memory.available must be <= 100%: 200%",
		"eviction-hard=memory.available<-3%":               "eviction percentage threshold memory.available must be >= 0%: -3%",
		"eviction-hard=memory.available<0":                 "eviction threshold memory.available must be positive: 0",
		"eviction-soft=memory.available<1Gi":               "grace period must be specified for the soft eviction threshold memory.available",
		"eviction-soft-grace-period=memory.available=-1s":  "invalid eviction grace period specified: -1s, must be a positive value",
		"eviction-soft-grace-period=memory.available=soon": "invalid duration",
		"eviction-minimum-reclaim=nodefs.available":        "malformed pair, expect string=string",
		"eviction-minimum-reclaim=nodefs.available=0%":     "eviction percentage minimum reclaim nodefs.available must be positive: 0%",
		"eviction-minimum-reclaim=nodefs.available=-1Gi":   "negative eviction minimum reclaim specified for nodefs.available",
		"eviction-max-pod-grace-period=x":                  `"x": expected a number`,
	} {
		if _, err := ParseKubelet([]string{arg}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", arg, err)
		}
	}
}

func TestConfiguration(t *testing.T) {
	k, err := ParseKubelet([]string{
		"eviction-hard=memory.available<100Mi", "eviction-soft=nodefs.available<10%", "eviction-soft-grace-period=nodefs.available=90s",
		"memory-swap.swap-behavior=LimitedSwap", "shutdown-grace-period-by-pod-priority=0=10",
	})
	if err != nil {
		t.Fatal(err)
	}
	c := k.Configuration()
	got := fmt.Sprint(c["evictionHard"], c["evictionSoft"], c["evictionSoftGracePeriod"], c["memorySwap"], c["shutdownGracePeriodByPodPriority"], c["failSwapOn"])
	if got != "map[memory.available:100Mi] map[nodefs.available:10%] map[nodefs.available:1m30s] map[swapBehavior:LimitedSwap] [map[priority:0 shutdownGracePeriodSeconds:10]] false" {
		t.Errorf("got %s", got)
	}
}
