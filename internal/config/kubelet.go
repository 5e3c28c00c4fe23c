package config

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Kubelet is what can be said of how a node keeps itself from running short; the
// names of its settings are those of upstream's kubelet.
type Kubelet struct {
	EvictionHard       map[string]Amount        // by signal, "memory.available"
	EvictionSoft       map[string]Amount        // by signal; acted on when it has lasted
	SoftGrace          map[string]time.Duration // for so long
	MinimumReclaim     map[string]Amount        // what is got back beyond that, by signal
	MaxPodGrace        int64                    // seconds that a Pod gets which goes for a soft threshold; negative: what it says
	PressureTransition time.Duration            // how long a condition stays when all is well again
	ImageGCHigh        int                      // percent of the disk from which on unused images are removed
	ImageGCLow         int                      // … and until which
	ImageMinimumAge    time.Duration            // of an image that is removed
	Dead               DeadContainers
	Shutdown           Shutdown
	Swap               Swap
	KubeReserved       corev1.ResourceList
	SystemReserved     corev1.ResourceList
	Pulls              Pulls
	Pods               Pods

	AllowedUnsafeSysctls []string // that Pods may set besides the safe ones; "kernel.msg*" is for all that begin so
}

// reservable is what can be kept from Pods.
var reservable = [...]string{"cpu", "memory", "ephemeral-storage", "pid"}

// DefaultKubelet is what k3s tells its kubelet, and upstream's defaults where it
// tells nothing.
func DefaultKubelet() Kubelet {
	share := func(percent float64) Amount { return Amount{Percent: percent} }
	return Kubelet{
		EvictionHard: map[string]Amount{
			"memory.available": {Quantity: resource.MustParse("100Mi")},
			"nodefs.available": share(5), "imagefs.available": share(5),
			"nodefs.inodesFree": share(5), "imagefs.inodesFree": share(5), "pid.available": share(5),
		},
		EvictionSoft: map[string]Amount{}, SoftGrace: map[string]time.Duration{},
		MinimumReclaim:     map[string]Amount{"nodefs.available": share(10), "imagefs.available": share(10)},
		PressureTransition: 5 * time.Minute,
		ImageGCHigh:        85, ImageGCLow: 80, ImageMinimumAge: 2 * time.Minute,
		Dead:  defaultDead(),
		Pulls: defaultPulls(),
		Pods:  DefaultPods(),
	}
}

// ParseKubelet reads arguments of upstream's kubelet, NAME=VALUE each, over what the
// files that they name say, over the defaults.
func ParseKubelet(args []string) (Kubelet, error) {
	k := DefaultKubelet()
	args = rejoined(args)
	for _, arg := range args {
		path, ok := strings.CutPrefix(strings.TrimPrefix(arg, "--"), configFile+"=")
		if !ok {
			continue
		}
		read, err := fileArguments(path)
		if err == nil {
			err = k.apply(read)
		}
		if err != nil {
			return k, fmt.Errorf("kubelet-arg: %s: %w", configFile, err)
		}
	}
	err := k.apply(args)
	for _, validate := range []func() error{k.checkSoft, k.checkImages, k.Pulls.validate, k.Shutdown.validate, k.Swap.validate} {
		if err == nil {
			err = validate()
		}
	}
	if err != nil {
		return k, fmt.Errorf("kubelet-arg: %w", err)
	}
	return k, nil
}

// configFile is the argument that names a file of settings.
const configFile = "config"

// apply takes arguments, one by one.
func (k *Kubelet) apply(args []string) error {
	known := map[string]func(string) error{
		configFile:                            func(string) error { return nil }, // it has been read
		"eviction-hard":                       signalsInto(k.EvictionHard, "<", parseThreshold),
		"eviction-soft":                       signalsInto(k.EvictionSoft, "<", parseThreshold),
		"eviction-soft-grace-period":          signalsInto(k.SoftGrace, "=", parseGrace),
		"eviction-minimum-reclaim":            signalsInto(k.MinimumReclaim, "=", parseReclaim),
		"eviction-max-pod-grace-period":       numberInto(&k.MaxPodGrace),
		"kube-reserved":                       resourcesInto(&k.KubeReserved),
		"system-reserved":                     resourcesInto(&k.SystemReserved),
		"eviction-pressure-transition-period": durationInto(&k.PressureTransition),
		"image-gc-high-threshold":             percentInto(&k.ImageGCHigh),
		"image-gc-low-threshold":              percentInto(&k.ImageGCLow),
		"minimum-image-ttl-duration":          durationInto(&k.ImageMinimumAge),
		unsafeSysctls:                         sysctlsInto(&k.AllowedUnsafeSysctls),
	}
	for _, more := range []map[string]func(string) error{k.Pulls.arguments(), k.Pods.arguments(), k.Dead.arguments(), k.Shutdown.arguments(), k.Swap.arguments()} {
		maps.Copy(known, more)
	}
	for _, arg := range args {
		name, value, said := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
		if !said {
			value = "true" // as a flag that is a switch
		}
		set, ok := known[name]
		if !ok {
			return fmt.Errorf("%q is none that this node knows; it knows %s", name, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		}
		if err := set(value); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// checkImages says what does not fit together about when images go.
func (k *Kubelet) checkImages() error {
	if k.ImageGCLow >= k.ImageGCHigh {
		return fmt.Errorf("image-gc-low-threshold %d must be below image-gc-high-threshold %d", k.ImageGCLow, k.ImageGCHigh)
	}
	return nil
}

// rejoined puts together what was taken for several arguments: commas separate both
// them and what some of them list.
func rejoined(args []string) []string {
	var out []string
	for _, arg := range args {
		name := arg[:strings.IndexFunc(arg+"=", func(r rune) bool { return r == '=' || r == '<' })]
		_, err := strconv.Atoi(name) // a priority
		part := err == nil || slices.Contains(signals[:], name) || slices.Contains(reservable[:], name)
		last := len(out) - 1
		part = part || last >= 0 && name == arg && strings.Contains(out[last], unsafeSysctls+"=")
		if part && last >= 0 {
			out[last] += "," + arg
			continue
		}
		out = append(out, arg)
	}
	return out
}

func resourcesInto(list *corev1.ResourceList) func(string) error {
	return func(text string) error {
		*list = corev1.ResourceList{}
		for part := range strings.SplitSeq(text, ",") {
			name, amount, ok := strings.Cut(part, "=")
			q, err := resource.ParseQuantity(amount)
			if !ok || !slices.Contains(reservable[:], name) || err != nil || q.Sign() < 0 {
				return fmt.Errorf("%q: expected one of %s, =, and an amount", part, strings.Join(reservable[:], ", "))
			}
			(*list)[corev1.ResourceName(name)] = q
		}
		return nil
	}
}

func percentInto(n *int) func(string) error {
	return func(text string) (err error) {
		if *n, err = strconv.Atoi(text); err != nil || *n < 0 || *n > 100 {
			return fmt.Errorf("%q: expected a number from 0 to 100", text)
		}
		return nil
	}
}

func numberInto(n *int64) func(string) error {
	return func(text string) (err error) {
		if *n, err = strconv.ParseInt(text, 10, 32); err != nil {
			return fmt.Errorf("%q: expected a number", text)
		}
		return nil
	}
}

func durationInto(d *time.Duration) func(string) error {
	return func(text string) (err error) {
		if *d, err = time.ParseDuration(text); err == nil && *d < 0 {
			err = fmt.Errorf("%q is negative", text)
		}
		return err
	}
}
