package config

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestShutdownGroups(t *testing.T) {
	tests := map[string]struct {
		args []string
		want []string
	}{
		"by default":  {nil, nil},
		"for all":     {[]string{"shutdown-grace-period=30s"}, []string{"0: 30s", "2000000000: 0s"}},
		"in two":      {[]string{"shutdown-grace-period=1m", "shutdown-grace-period-critical-pods=10s"}, []string{"0: 50s", "2000000000: 10s"}},
		"by priority": {[]string{"shutdown-grace-period-by-pod-priority=1000=20", "-5=60", "0=0"}, []string{"-5: 1m0s", "0: 0s", "1000: 20s"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			k, err := ParseKubelet(tt.args)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, g := range k.Shutdown.Groups() {
				got = append(got, fmt.Sprintf("%d: %s", g.Priority, g.Time))
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q", got)
			}
		})
	}
}

func TestShutdownMistakes(t *testing.T) {
	for args, want := range map[string]string{
		"shutdown-grace-period=500ms":                                          "shutdownGracePeriod 500ms must be either zero or otherwise >= 1 sec",
		"shutdown-grace-period=-1s":                                            "must be <= shutdownGracePeriod -1s",
		"shutdown-grace-period=10s shutdown-grace-period-critical-pods=20s":    "shutdownGracePeriodCriticalPods 20s must be <= shutdownGracePeriod 10s",
		"shutdown-grace-period=10s shutdown-grace-period-critical-pods=2ms":    "shutdownGracePeriodCriticalPods 2ms must be either zero or otherwise >= 1 sec",
		"shutdown-grace-period=10s shutdown-grace-period-by-pod-priority=0=10": "Cannot specify both shutdownGracePeriodByPodPriority and shutdownGracePeriod at the same time",
		"shutdown-grace-period-by-pod-priority=high=10":                        `"high=10": expected PRIORITY=SECONDS`,
	} {
		if _, err := ParseKubelet(strings.Fields(args)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", args, err)
		}
	}
}
