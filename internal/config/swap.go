package config

import "fmt"

// What containers may have of the machine's swap.
const (
	NoSwap      = "NoSwap"
	LimitedSwap = "LimitedSwap" // as much as their share of the memory, for some
)

// Swap is what a node does about swap.
type Swap struct {
	Behavior string // NoSwap or LimitedSwap; "" is NoSwap
	FailOn   bool   // the node does not start where there is swap
}

func (s *Swap) arguments() map[string]func(string) error {
	return map[string]func(string) error{
		"memory-swap.swap-behavior": func(text string) error { s.Behavior = text; return nil },
		"fail-swap-on":              boolInto(&s.FailOn),
	}
}

func (s *Swap) validate() error {
	switch s.Behavior {
	case "", NoSwap, LimitedSwap:
		return nil
	}
	return fmt.Errorf("invalid configuration: memorySwap.swapBehavior %q must be one of: \"\", %q or %q", s.Behavior, LimitedSwap, NoSwap)
}
