package config

import (
	"strings"
	"testing"
)

func TestPodArguments(t *testing.T) {
	for args, want := range map[string]Pods{
		"":                               DefaultPods(),
		"max-pods=20":                    {Max: 20, LogSize: 10 << 20, LogFiles: 5},
		"--max-pods=0 --seccomp-default": {SeccompDefault: true, LogSize: 10 << 20, LogFiles: 5},
		"container-log-max-size=1Mi container-log-max-files=2": {Max: 110, LogSize: 1 << 20, LogFiles: 2},
	} {
		k, err := ParseKubelet(strings.Fields(args))
		if err != nil || k.Pods != want {
			t.Errorf("%s: %+v, %v", args, k.Pods, err)
		}
	}
	if k, err := ParseKubelet([]string{"single-process-oom-kill=true"}); err != nil || !k.Pods.KillOne || k.Configuration()["singleProcessOOMKill"] != true {
		t.Errorf("%+v, %v", k.Pods, err)
	}
	k, err := ParseKubelet([]string{"container-log-max-size=1500Ki", "max-pods=7"})
	if c := k.Configuration(); err != nil || c["maxPods"] != 7 || c["seccompDefault"] != false || c["containerLogMaxSize"] != "1500Ki" || c["containerLogMaxFiles"] != 5 {
		t.Errorf("%v, %v", c, err)
	}
	for args, want := range map[string]string{
		"max-pods=-1":                `"-1": expected a number from 0`,
		"seccomp-default=often":      `"often": expected true or false`,
		"container-log-max-size=0":   `"0": expected an amount of bytes`,
		"container-log-max-size=big": `"big": expected an amount of bytes`,
		"container-log-max-files=1":  `"1": expected a number from 2`,
	} {
		if _, err := ParseKubelet(strings.Fields(args)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", args, err)
		}
	}
}
