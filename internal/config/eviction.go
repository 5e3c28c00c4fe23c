package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
)

// Amount is so many bytes or things, or a share of what there is.
type Amount struct {
	Quantity resource.Quantity
	Percent  float64 // of the capacity; 0: Quantity counts
}

// Of is the amount where there is so much.
func (a Amount) Of(capacity int64) int64 {
	if a.Percent > 0 {
		return int64(float64(capacity) * a.Percent / 100)
	}
	return a.Quantity.Value()
}

// allocatableMemory is what is left of the memory that all Pods together may use.
const allocatableMemory = "allocatableMemory.available"

// signals are what eviction can go by, the most urgent first. Writable layers lie
// where images do, so those of containerfs are read and, as upstream does, not
// acted on: they are what imagefs or nodefs says.
var signals = [...]string{
	"memory.available", allocatableMemory,
	"nodefs.available", "imagefs.available", "containerfs.available",
	"nodefs.inodesFree", "imagefs.inodesFree", "containerfs.inodesFree",
	"pid.available",
}

// Threshold is how much must be left of something for no Pod to be evicted.
type Threshold struct {
	Signal  string
	Least   Amount
	Reclaim Amount        // what is to be got back beyond that once it was too little
	Grace   time.Duration // for how long it may be too little; 0: not at all
}

// Thresholds are all that the node keeps to, the most urgent first and hard ones
// before soft ones. What holds of the machine's memory holds of the Pods' too.
func (k Kubelet) Thresholds() []Threshold {
	var out []Threshold
	for _, signal := range signals {
		asked := signal
		if signal == allocatableMemory {
			asked = "memory.available"
		}
		own, ok := k.EvictionHard[signal]
		if !ok {
			own, ok = k.EvictionHard[asked]
		}
		if ok && own.some() {
			out = append(out, Threshold{Signal: signal, Least: own, Reclaim: k.MinimumReclaim[asked]})
		}
		if soft := k.EvictionSoft[signal]; soft.some() {
			out = append(out, Threshold{Signal: signal, Least: soft, Reclaim: k.MinimumReclaim[signal], Grace: k.SoftGrace[signal]})
		}
	}
	return out
}

// some says whether the amount is one to go by: none of something, or all of it, is
// how a threshold is turned off.
func (a Amount) some() bool {
	return a.Percent > 0 && a.Percent < 100 || a.Percent == 0 && a.Quantity.Sign() > 0
}

// checkSoft says what is missing for the soft thresholds.
func (k *Kubelet) checkSoft() error {
	for _, signal := range signals {
		if soft, ok := k.EvictionSoft[signal]; ok && soft.some() {
			if _, ok := k.SoftGrace[signal]; !ok {
				return fmt.Errorf("grace period must be specified for the soft eviction threshold %s; give it in eviction-soft-grace-period", signal)
			}
		}
	}
	return nil
}

// signalsInto reads "SIGNAL<VALUE,…" in place of what was there, and more of them
// when it is given again. The sign is < or =; an empty text is for none.
func signalsInto[V any](all map[string]V, sign string, parse func(signal, text string) (V, error)) func(string) error {
	first := true
	return func(text string) error {
		if first {
			clear(all)
			first = false
		}
		for part := range strings.SplitSeq(text, ",") {
			if part == "" {
				continue
			}
			signal, value, ok := strings.Cut(part, sign)
			if !ok {
				return fmt.Errorf("malformed pair, expect string%sstring: %q", sign, part)
			}
			if signal = strings.TrimSpace(signal); !slices.Contains(signals[:], signal) {
				return fmt.Errorf("unsupported eviction signal %s; there are %s", signal, strings.Join(signals[:], ", "))
			}
			v, err := parse(signal, strings.TrimSpace(value))
			if err != nil {
				return err
			}
			all[signal] = v
		}
		return nil
	}
}

func parsePercent(text string) (percent float64, ok bool, err error) {
	number, ok := strings.CutSuffix(text, "%")
	if ok {
		percent, err = strconv.ParseFloat(number, 32)
	}
	return percent, ok, err
}

func parseThreshold(signal, text string) (Amount, error) {
	percent, share, err := parsePercent(text)
	switch {
	case err != nil:
		return Amount{}, err
	case share && percent < 0:
		return Amount{}, fmt.Errorf("eviction percentage threshold %s must be >= 0%%: %s", signal, text)
	case share && percent > 100:
		return Amount{}, fmt.Errorf("eviction percentage threshold %s must be <= 100%%: %s", signal, text)
	case share:
		return Amount{Percent: percent}, nil
	}
	q, err := resource.ParseQuantity(text)
	if err != nil {
		return Amount{}, fmt.Errorf("%q: %w", text, err)
	}
	if q.Sign() <= 0 {
		return Amount{}, fmt.Errorf("eviction threshold %s must be positive: %s", signal, &q)
	}
	return Amount{Quantity: q}, nil
}

func parseReclaim(signal, text string) (Amount, error) {
	percent, share, err := parsePercent(text)
	switch {
	case err != nil:
		return Amount{}, err
	case share && percent <= 0:
		return Amount{}, fmt.Errorf("eviction percentage minimum reclaim %s must be positive: %s", signal, text)
	case share:
		return Amount{Percent: percent}, nil
	}
	q, err := resource.ParseQuantity(text)
	if err != nil {
		return Amount{}, fmt.Errorf("%q: %w", text, err)
	}
	if q.Sign() < 0 {
		return Amount{}, fmt.Errorf("negative eviction minimum reclaim specified for %s", signal)
	}
	return Amount{Quantity: q}, nil
}

func parseGrace(_, text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err == nil && d < 0 {
		err = fmt.Errorf("invalid eviction grace period specified: %s, must be a positive value", text)
	}
	return d, err
}
