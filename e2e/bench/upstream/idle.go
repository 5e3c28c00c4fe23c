package main

import (
	"context"
	"time"

	"github.com/skiff-sh/skiff/e2e/figures"
)

// settle is how long the servers get to come to rest.
const settle = 20 * time.Second

// idle measures servers that have nothing to do, both at the same time.
func (b *bench) idle(ctx context.Context) error {
	if err := sleep(ctx, settle); err != nil {
		return err
	}
	before := map[*side]figures.Usage{}
	for _, s := range b.sides {
		u, err := s.usage()
		if err != nil {
			return err
		}
		before[s] = u
	}
	if err := sleep(ctx, b.quiet); err != nil {
		return err
	}
	for _, s := range b.sides {
		u, err := s.usage()
		if err != nil {
			return err
		}
		b.results.addUsage(s, "idle", u)
		b.results.add(s.name, "idle_cpu_percent", 100*(u.CPU-before[s].CPU).Seconds()/b.quiet.Seconds())
	}
	return nil
}
