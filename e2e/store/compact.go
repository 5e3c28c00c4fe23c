package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/skiff-sh/skiff/e2e/figures"
	"github.com/skiff-sh/skiff/internal/store"
	"github.com/skiff-sh/skiff/internal/store/bolt"
)

// deleted of five objects are deleted before a compaction.
const deleted = 4

// compact measures the pause that a compaction means for writers: the longest
// that any of them waits while it runs, beside the longest in a spell without.
func (b *bench) compact(ctx context.Context) error {
	fmt.Printf("\nCompaction of %d objects of %d bytes of which %d in 5 were deleted, under %d writers\n",
		b.scale.space, objectBytes, deleted, busyWriters)
	var all []compaction
	for range b.scale.rounds {
		c, err := b.compactOnce(ctx)
		if err != nil {
			return err
		}
		all = append(all, c)
	}
	note := func(key string, over func([]float64) float64, figure func(compaction) float64) {
		var values []float64
		for _, c := range all {
			values = append(values, figure(c))
		}
		b.set(key, over(values))
	}
	note("compact_before_bytes", figures.Median, func(c compaction) float64 { return c.before })
	note("compact_after_bytes", figures.Median, func(c compaction) float64 { return c.after })
	note("compact_ms", figures.Median, func(c compaction) float64 { return figures.Milliseconds(c.took) })
	longest := func(values []float64) float64 { return slices.Max(values) }
	note("compact_pause_ms", figures.Median, func(c compaction) float64 { return c.with.latency(1) })
	note("compact_pause_longest_ms", longest, func(c compaction) float64 { return c.with.latency(1) })
	note("compact_pause_without_ms", figures.Median, func(c compaction) float64 { return c.without.latency(1) })
	note("compact_pause_without_longest_ms", longest, func(c compaction) float64 { return c.without.latency(1) })
	note("compact_p99_ms", figures.Median, func(c compaction) float64 { return c.with.latency(0.99) })
	note("compact_p99_without_ms", figures.Median, func(c compaction) float64 { return c.without.latency(0.99) })
	return nil
}

// compaction is one of them.
type compaction struct {
	before, after float64 // bytes of the file
	took          time.Duration
	with, without *result
}

func (b *bench) compactOnce(ctx context.Context) (c compaction, err error) {
	path := filepath.Join(b.dir, "compact.db")
	// It must not compact by itself before it is looked at.
	engine, err := bolt.Open(path, bolt.Options{CompactBytes: -1})
	if err != nil {
		return c, err
	}
	s := &skiff{engine, make([]store.Revision, b.scale.space)}
	defer func() { err = errors.Join(err, s.close(), os.Remove(path)) }()
	values := newValues()
	if err := fill(ctx, s, b.scale.space, values); err != nil {
		return c, err
	}
	left := b.scale.space * (5 - deleted) / 5
	if err := s.deleteFrom(ctx, left); err != nil {
		return c, err
	}
	r := race{keeper: s, writers: busyWriters, objects: left, values: values, more: during(b.scale.spell)}
	if c.without, err = r.run(ctx); err != nil {
		return c, err
	}
	c.before = float64(s.engine.Stats().FileBytes)
	c.with, err = r.beside(ctx, func(ctx context.Context) error {
		began := time.Now()
		defer func() { c.took = time.Since(began) }()
		return s.engine.Compact(ctx)
	})
	c.after = float64(s.engine.Stats().FileBytes)
	return c, err
}

// deleteFrom deletes all objects from the first-th on; their names are spread
// over the whole store.
func (s *skiff) deleteFrom(ctx context.Context, first int) error {
	for i := first; i < len(s.revisions); {
		var ops []store.Op
		for ; len(ops) < 500 && i < len(s.revisions); i++ {
			ops = append(ops, store.Op{Key: skiffKey(i), Action: store.Delete, Expect: s.revisions[i]})
		}
		if _, err := s.engine.Commit(ctx, ops); err != nil {
			return err
		}
	}
	return nil
}
