package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// fileFields are the fields of a kubelet's configuration file
// (kubelet.config.k8s.io/v1beta1) that this node knows, by the arguments that say the
// same.
func fileFields() map[string]string {
	return map[string]string{
		"evictionHard":                     "eviction-hard",
		"evictionSoft":                     "eviction-soft",
		"evictionSoftGracePeriod":          "eviction-soft-grace-period",
		"evictionMinimumReclaim":           "eviction-minimum-reclaim",
		"evictionMaxPodGracePeriod":        "eviction-max-pod-grace-period",
		"evictionPressureTransitionPeriod": "eviction-pressure-transition-period",
		"kubeReserved":                     "kube-reserved",
		"systemReserved":                   "system-reserved",
		"imageGCHighThresholdPercent":      "image-gc-high-threshold",
		"imageGCLowThresholdPercent":       "image-gc-low-threshold",
		"imageMinimumGCAge":                "minimum-image-ttl-duration",
		"allowedUnsafeSysctls":             unsafeSysctls,
		"maxPods":                          "max-pods",
		"seccompDefault":                   "seccomp-default",
		"singleProcessOOMKill":             "single-process-oom-kill",
		"containerLogMaxSize":              "container-log-max-size",
		"containerLogMaxFiles":             "container-log-max-files",
		"serializeImagePulls":              "serialize-image-pulls",
		"maxParallelImagePulls":            "max-parallel-image-pulls",
		"registryPullQPS":                  "registry-qps",
		"registryBurst":                    "registry-burst",
		"shutdownGracePeriod":              "shutdown-grace-period",
		"shutdownGracePeriodCriticalPods":  "shutdown-grace-period-critical-pods",
		"shutdownGracePeriodByPodPriority": "shutdown-grace-period-by-pod-priority",
		"memorySwap":                       "memory-swap.swap-behavior",
		"failSwapOn":                       "fail-swap-on",
	}
}

// fileArguments reads a kubelet's configuration file as the arguments that say the
// same.
func fileArguments(path string) ([]string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if data, err = yaml.YAMLToJSONStrict(data); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	var fields map[string]any
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := d.Decode(&fields); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if v := fields["apiVersion"]; v != "kubelet.config.k8s.io/v1beta1" {
		return nil, fmt.Errorf("%s: apiVersion is %v, and kubelet.config.k8s.io/v1beta1 is what this node reads", path, v)
	}
	if v := fields["kind"]; v != "KubeletConfiguration" {
		return nil, fmt.Errorf("%s: kind is %v, and KubeletConfiguration is what this node reads", path, v)
	}
	known := fileFields()
	var out []string
	for _, field := range slices.Sorted(maps.Keys(fields)) {
		if field == "apiVersion" || field == "kind" {
			continue
		}
		name, ok := known[field]
		if !ok {
			return nil, fmt.Errorf("%s: %s is no field that this node knows; it knows %s", path, field, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		}
		text, err := argumentText(field, fields[field])
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", path, field, err)
		}
		out = append(out, name+"="+text)
	}
	return out, nil
}

// argumentText is a field's value as an argument has it.
func argumentText(field string, value any) (string, error) {
	switch v := value.(type) {
	case string:
		return v, nil
	case bool, json.Number:
		return fmt.Sprint(v), nil
	case map[string]any:
		if field == "memorySwap" {
			if len(v) == 0 {
				return "", nil
			}
			return entry(v, "swapBehavior")
		}
		sign := "="
		if field == "evictionHard" || field == "evictionSoft" {
			sign = "<"
		}
		var parts []string
		for _, name := range slices.Sorted(maps.Keys(v)) {
			text, err := entry(v, name)
			if err != nil {
				return "", err
			}
			parts = append(parts, name+sign+text)
		}
		return strings.Join(parts, ","), nil
	case []any:
		var parts []string
		for _, item := range v {
			text, err := itemText(item)
			if err != nil {
				return "", err
			}
			parts = append(parts, text)
		}
		return strings.Join(parts, ","), nil
	}
	return "", fmt.Errorf("%v is no value for it", value)
}

// itemText is one of a list's items: a text, or a group of the shutdown.
func itemText(item any) (string, error) {
	group, ok := item.(map[string]any)
	if !ok {
		return argumentText("", item)
	}
	if len(group) != 2 {
		return "", errors.New("a group has priority and shutdownGracePeriodSeconds")
	}
	priority, err1 := entry(group, "priority")
	seconds, err2 := entry(group, "shutdownGracePeriodSeconds")
	return priority + "=" + seconds, errors.Join(err1, err2)
}

func entry(all map[string]any, name string) (string, error) {
	switch v := all[name].(type) {
	case string:
		return v, nil
	case bool, json.Number:
		return fmt.Sprint(v), nil
	}
	return "", fmt.Errorf("%s is %v", name, all[name])
}
