package config

import (
	"fmt"
	"strconv"
	"time"
)

// DeadContainers is what a node keeps of attempts of containers that have ended: their
// logs above all.
type DeadContainers struct {
	MinimumAge   time.Duration // since it was made, before which nothing goes for these numbers' sake
	PerContainer int           // of each container; negative: as many as there are
	All          int           // of the node; negative: as many as there are
}

// defaultDead has upstream's defaults.
func defaultDead() DeadContainers { return DeadContainers{PerContainer: 1, All: -1} }

func (d *DeadContainers) arguments() map[string]func(string) error {
	return map[string]func(string) error{
		"minimum-container-ttl-duration":        durationInto(&d.MinimumAge),
		"maximum-dead-containers-per-container": integerInto(&d.PerContainer),
		"maximum-dead-containers":               integerInto(&d.All),
	}
}

func integerInto(n *int) func(string) error {
	return func(text string) error {
		number, err := strconv.ParseInt(text, 10, 32)
		if err != nil {
			return fmt.Errorf("%q: expected a number", text)
		}
		*n = int(number)
		return nil
	}
}
