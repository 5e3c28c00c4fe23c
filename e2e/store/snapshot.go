package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/skiff-sh/skiff/e2e/figures"
	"github.com/skiff-sh/skiff/internal/store/bolt"
)

// busyWriters write while the store is copied or compacted.
const busyWriters = 16

// snapshot measures how long a copy of the store takes, and what writers notice
// of it: spells with copies being made take turns with spells without.
func (b *bench) snapshot(ctx context.Context) (err error) {
	fmt.Printf("\nSnapshots of %d objects of %d bytes, to a file on the same disk, synced; %d writers where there are any\n",
		b.scale.space, objectBytes, busyWriters)
	path := filepath.Join(b.dir, "snapshot.db")
	s, err := openSkiff(path, b.scale.space)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close(), os.Remove(path)) }()
	values := newValues()
	if err := fill(ctx, s, b.scale.space, values); err != nil {
		return err
	}
	r := race{keeper: s, writers: busyWriters, objects: b.scale.space, values: values, more: during(b.scale.spell)}
	var alone, busy []time.Duration
	var rounds []round
	for range b.scale.rounds {
		if err := s.copies(ctx, path+".copy", 0, &alone); err != nil {
			return err
		}
		without, err := r.run(ctx)
		if err != nil {
			return err
		}
		with, err := r.beside(ctx, func(ctx context.Context) error { return s.copies(ctx, path+".copy", b.scale.spell, &busy) })
		if err != nil {
			return err
		}
		rounds = append(rounds, round{{result: with}, {result: without}})
	}
	b.tellSnapshots(alone, busy, rounds, s.engine.Stats().FileBytes)
	return nil
}

// tellSnapshots notes and prints what became of the rounds, in which the first
// race had a copy beside it and the second had none.
func (b *bench) tellSnapshots(alone, busy []time.Duration, rounds []round, bytes int64) {
	b.set("snapshot_bytes", float64(bytes))
	b.set("snapshot_ms", figures.Milliseconds(figures.Median(alone)))
	b.set("snapshot_busy_ms", figures.Milliseconds(figures.Median(busy)))
	p99 := func(m measured) float64 { return m.latency(0.99) }
	b.set("snapshot_p99_ms", middle(rounds, 0, p99))
	b.set("snapshot_p99_without_ms", middle(rounds, 1, p99))
	b.set("snapshot_p99_ratio", ratio(rounds, 1, p99))
	b.set("snapshot_updates_ratio", ratio(rounds, 1, func(m measured) float64 { return m.perSecond() }))
}

// copies makes one copy, and more until the spell is over.
func (s *skiff) copies(ctx context.Context, path string, spell time.Duration, took *[]time.Duration) error {
	for began := time.Now(); ; {
		start := time.Now()
		if err := s.copy(ctx, path); err != nil {
			return err
		}
		*took = append(*took, time.Since(start))
		if time.Since(began) >= spell {
			return nil
		}
	}
}

func (s *skiff) copy(ctx context.Context, path string) (err error) {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close(), os.Remove(path)) }()
	if err := s.engine.Snapshot(ctx, bolt.Spread(file)); err != nil {
		return err
	}
	return file.Sync()
}
