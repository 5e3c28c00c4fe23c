package config

import (
	"errors"
	"fmt"
	"strconv"
)

// Pulls is how many images a node fetches. Unlike upstream's and as in k3s they are
// fetched side by side: one registry that is slow does not hold up all Pods.
type Pulls struct {
	Serialize   bool // one at a time
	MaxParallel int  // at the same time; 0: as many as are wanted
	QPS         int  // begun each second, in the mean; 0: as many as are wanted
	Burst       int  // … and at once
}

// defaultPulls has upstream's defaults but for Serialize.
func defaultPulls() Pulls { return Pulls{QPS: 5, Burst: 10} }

// arguments reads those of upstream's kubelet, and its setting maxParallelImagePulls,
// for which it has none.
func (p *Pulls) arguments() map[string]func(string) error {
	return map[string]func(string) error{
		"serialize-image-pulls":    boolInto(&p.Serialize),
		"max-parallel-image-pulls": countInto(&p.MaxParallel, 1),
		"registry-qps":             countInto(&p.QPS, 0),
		"registry-burst":           countInto(&p.Burst, 0),
	}
}

// validate says what does not fit together.
func (p *Pulls) validate() error {
	if p.Serialize && p.MaxParallel > 1 {
		return errors.New("max-parallel-image-pulls cannot be larger than 1 unless serialize-image-pulls is false")
	}
	return nil
}

// Limit is how many images are fetched at the same time; 0: as many as are wanted.
func (p Pulls) Limit() int {
	if p.Serialize {
		return 1
	}
	return p.MaxParallel
}

func boolInto(b *bool) func(string) error {
	return func(text string) (err error) {
		if *b, err = strconv.ParseBool(text); err != nil {
			return fmt.Errorf("%q: expected true or false", text)
		}
		return nil
	}
}

func countInto(n *int, least int) func(string) error {
	return func(text string) error {
		count, err := strconv.ParseInt(text, 10, 32)
		if err != nil || int(count) < least {
			return fmt.Errorf("%q: expected a number from %d", text, least)
		}
		*n = int(count)
		return nil
	}
}
