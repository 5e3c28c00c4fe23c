package main

import (
	"context"
	"fmt"
	"time"

	"github.com/skiff-sh/skiff/e2e/bench/load"
	"github.com/skiff-sh/skiff/e2e/figures"
)

// spell is how long one operation is measured with one number of clients.
const spell = 2 * time.Second

// api measures ConfigMaps of 1 KB with 1, 8 and 24 clients.
func (b *bench) api(ctx context.Context) error {
	return b.withServer(ctx, func(s *server) error {
		for _, clients := range []int{1, 8, 24} {
			if err := b.apiWith(ctx, s, clients); err != nil {
				return err
			}
		}
		return nil
	})
}

func (b *bench) apiWith(ctx context.Context, s *server, n int) error {
	clients, err := load.Clients(ctx, s.config, n)
	if err != nil {
		return err
	}
	maps := load.ConfigMaps{Clients: clients, Namespace: namespace, Prefix: fmt.Sprintf("bench-%d", n)}
	for _, v := range load.Verbs {
		o, err := maps.Spell(ctx, v, spell)
		if err != nil {
			return err
		}
		key := fmt.Sprintf("configmap_%s_%d_", v.Name, n)
		b.set(key+"p50_ms", milliseconds(figures.Percentile(o.Took, 0.5)))
		b.set(key+"p99_ms", milliseconds(figures.Percentile(o.Took, 0.99)))
		b.set(key+"ops", o.PerSecond())
	}
	return nil
}
