package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestKubeletFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kubelet.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte("apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"+text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(`
evictionHard: {memory.available: 1Gi, nodefs.available: 5%}
evictionSoft: {memory.available: 2Gi}
evictionSoftGracePeriod: {memory.available: 1m}
kubeReserved: {cpu: 100m, memory: 1Gi}
imageGCHighThresholdPercent: 70
imageGCLowThresholdPercent: 60
memorySwap: {swapBehavior: LimitedSwap}
failSwapOn: false
shutdownGracePeriodByPodPriority:
- {priority: 0, shutdownGracePeriodSeconds: 30}
- {priority: 2000000000, shutdownGracePeriodSeconds: 10}
allowedUnsafeSysctls: [net.core.somaxconn, "kernel.msg*"]
`)
	// What an argument says counts, whatever their order.
	k, err := ParseKubelet([]string{"eviction-hard=pid.available<10", "config=" + path, "image-gc-high-threshold=75"})
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(k.EvictionHard, k.EvictionSoft, k.SoftGrace, k.ImageGCHigh, k.ImageGCLow, k.Swap, k.Shutdown.ByPriority, k.AllowedUnsafeSysctls, k.KubeReserved.Cpu(), k.KubeReserved.Memory())
	want := "map[pid.available:10] map[memory.available:2Gi] map[memory.available:1m0s] 75 60 {LimitedSwap false} [{0 30s} {2000000000 10s}] [net.core.somaxconn kernel.msg*] 100m 1Gi"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for text, want := range map[string]string{
		"podPidsLimit: 3":                           "podPidsLimit is no field that this node knows; it knows allowedUnsafeSysctls, ",
		"evictionHard: {x: 1Gi}":                    "eviction-hard: unsupported eviction signal x",
		"failSwapOn: [{}]":                          "a group has priority and shutdownGracePeriodSeconds",
		"kind: Other":                               `key "kind" already set`,
		"memorySwap: {swapBehavior: UnlimitedSwap}": `memorySwap.swapBehavior "UnlimitedSwap" must be one of: "", "LimitedSwap" or "NoSwap"`,
	} {
		write(text)
		if _, err := ParseKubelet([]string{"config=" + path}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
	if err := os.WriteFile(path, []byte("kind: Pod"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ParseKubelet([]string{"config=" + path}); err == nil || !strings.Contains(err.Error(), "kubelet.config.k8s.io/v1beta1 is what this node reads") {
		t.Errorf("another kind: %v", err)
	}
	write("shutdownGracePeriod: 30s\nshutdownGracePeriodCriticalPods: 10s")
	if k, err := ParseKubelet([]string{"config=" + path}); err != nil || k.Shutdown.Grace != 30*time.Second || k.Shutdown.Critical != 10*time.Second {
		t.Errorf("%+v, %v", k.Shutdown, err)
	}
}
