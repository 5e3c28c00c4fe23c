package config

import (
	"strings"
	"testing"
)

func TestPullArguments(t *testing.T) {
	for _, test := range []struct {
		args  string
		want  Pulls
		limit int
	}{
		{"", Pulls{QPS: 5, Burst: 10}, 0},
		{"serialize-image-pulls=true", Pulls{Serialize: true, QPS: 5, Burst: 10}, 1},
		{"serialize-image-pulls=true max-parallel-image-pulls=1", Pulls{Serialize: true, MaxParallel: 1, QPS: 5, Burst: 10}, 1},
		{"--max-parallel-image-pulls=4 registry-qps=0 registry-burst=1", Pulls{MaxParallel: 4, Burst: 1}, 4},
	} {
		k, err := ParseKubelet(strings.Fields(test.args))
		if err != nil || k.Pulls != test.want || k.Pulls.Limit() != test.limit {
			t.Errorf("%s: %+v, %v", test.args, k.Pulls, err)
		}
	}
	k, err := ParseKubelet([]string{"max-parallel-image-pulls=4"})
	if c := k.Configuration(); err != nil || c["maxParallelImagePulls"] != 4 || c["serializeImagePulls"] != false || c["registryPullQPS"] != 5 {
		t.Errorf("%v, %v", c, err)
	}
	for args, want := range map[string]string{
		"serialize-image-pulls=maybe":                           `"maybe": expected true or false`,
		"max-parallel-image-pulls=0":                            `"0": expected a number from 1`,
		"registry-qps=-1":                                       `"-1": expected a number from 0`,
		"registry-burst=many":                                   `"many": expected a number from 0`,
		"serialize-image-pulls=true max-parallel-image-pulls=2": "cannot be larger than 1 unless serialize-image-pulls is false",
	} {
		if _, err := ParseKubelet(strings.Fields(args)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", args, err)
		}
	}
}
