package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/e2e/bench/load"
)

// measure runs fn between two looks at what the side's processes have used.
func (b *bench) measure(s *side, name string, fn func() (load.Outcome, error)) error {
	before, err := s.usage()
	if err != nil {
		return err
	}
	o, err := fn()
	if err != nil {
		return err
	}
	after, err := s.usage()
	if err != nil {
		return err
	}
	b.results.addOutcome(s, name, o, before, after)
	return nil
}

// configMaps measures the verbs with 1, 8 and 24 clients, and what the servers use
// while the most of them update.
func (b *bench) configMaps(ctx context.Context) error {
	for _, s := range b.sides {
		if err := s.namespace(ctx, "configmaps"); err != nil {
			return err
		}
	}
	for _, clients := range []int{1, 8, 24} {
		if b.clients != 0 && b.clients != clients {
			continue
		}
		if err := b.configMapsWith(ctx, clients); err != nil {
			return err
		}
	}
	for _, s := range b.sides {
		u, err := s.usage()
		if err != nil {
			return err
		}
		b.results.addUsage(s, "load", u)
	}
	return nil
}

func (b *bench) configMapsWith(ctx context.Context, clients int) error {
	maps := map[*side]*load.ConfigMaps{}
	for _, s := range b.sides {
		connected, err := load.Clients(ctx, s.config, clients)
		if err != nil {
			return err
		}
		maps[s] = &load.ConfigMaps{Clients: connected, Namespace: "configmaps"}
	}
	for round := range b.rounds {
		for _, v := range load.Verbs {
			if b.verbs != "" && v.Name != "create" && !slices.Contains(strings.Split(b.verbs, ","), v.Name) {
				continue
			}
			for _, s := range b.sides {
				maps[s].Prefix = fmt.Sprintf("bench-%d-%d", clients, round)
				err := b.measure(s, fmt.Sprintf("%s_%d", v.Name, clients), func() (load.Outcome, error) {
					return maps[s].Spell(ctx, v, b.spell)
				})
				if err != nil {
					return fmt.Errorf("%s: %w", s.name, err)
				}
			}
		}
	}
	return nil
}

// listed is how many ConfigMaps a list has.
const listed = 1000

// list measures one client that lists ConfigMaps, its decoding included.
func (b *bench) list(ctx context.Context) error {
	const namespace = "list"
	for _, s := range b.sides {
		if err := s.namespace(ctx, namespace); err != nil {
			return err
		}
		maps := s.client.CoreV1().ConfigMaps(namespace)
		for i := range listed {
			if _, err := maps.Create(ctx, load.ConfigMap(fmt.Sprintf("map-%d", i), ""), metav1.CreateOptions{}); err != nil {
				return err
			}
		}
	}
	return b.turns(func(_ int, s *side) error {
		return b.measure(s, "list_1000", func() (load.Outcome, error) {
			return load.Run(ctx, 1, b.spell, func(ctx context.Context, _, _ int) error {
				list, err := s.client.CoreV1().ConfigMaps(namespace).List(ctx, metav1.ListOptions{})
				if err == nil && len(list.Items) < listed {
					err = fmt.Errorf("a list of %d ConfigMaps, not %d", len(list.Items), listed)
				}
				return err
			})
		})
	})
}
