package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"

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

// list measures one client that lists ConfigMaps: its decoding included, without any
// (the body read and unpacked), and in protobuf, which client-go's own types take where
// they are left to choose.
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
		config := load.Own(s.config)
		config.ContentType = runtime.ContentTypeProtobuf
		protobuf, err := kubernetes.NewForConfig(config)
		if err != nil {
			return err
		}
		for _, way := range []struct {
			name string
			do   func(ctx context.Context) error
		}{
			{"list_1000", func(ctx context.Context) error { return listAll(ctx, s.client, namespace) }},
			{"list_1000_protobuf", func(ctx context.Context) error { return listAll(ctx, protobuf, namespace) }},
			{"list_1000_raw", func(ctx context.Context) error {
				_, err := s.client.CoreV1().RESTClient().Get().Namespace(namespace).Resource("configmaps").DoRaw(ctx)
				return err
			}},
		} {
			err := b.measure(s, way.name, func() (load.Outcome, error) {
				return load.Run(ctx, 1, b.spell, func(ctx context.Context, _, _ int) error { return way.do(ctx) })
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func listAll(ctx context.Context, client kubernetes.Interface, namespace string) error {
	list, err := client.CoreV1().ConfigMaps(namespace).List(ctx, metav1.ListOptions{})
	if err == nil && len(list.Items) < listed {
		err = fmt.Errorf("a list of %d ConfigMaps, not %d", len(list.Items), listed)
	}
	return err
}
