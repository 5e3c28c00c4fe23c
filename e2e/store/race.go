package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/skiff-sh/skiff/e2e/figures"
)

// keeper keeps objects on disk: one of those that are compared.
type keeper interface {
	name() string
	// update writes the i-th object if it still has the revision that the last
	// update of it gave, and returns when it is on disk. Nobody else may update
	// the same object meanwhile.
	update(ctx context.Context, i int, value []byte) error
	// commits is how many trips to the disk there were; 0 if it does not say.
	commits() int64
	// pids are the processes that work for it, this one not counted.
	pids() []int
}

// race is several writers that update random objects of a keeper.
type race struct {
	keeper  keeper
	writers int
	objects int
	values  values
	// more is asked before each update, with the time since the start.
	more func(time.Duration) bool
}

// result is what became of a race.
type result struct {
	took    []time.Duration // of each update
	elapsed time.Duration
	commits int64
}

func (r *result) perSecond() float64 { return float64(len(r.took)) / r.elapsed.Seconds() }

func (r *result) latency(part float64) float64 {
	return figures.Milliseconds(figures.Percentile(r.took, part))
}

// during lets writers write for a while.
func during(spell time.Duration) func(time.Duration) bool {
	return func(since time.Duration) bool { return since < spell }
}

// run runs the race. Each writer has objects of its own, so that no update
// conflicts with another.
func (r race) run(ctx context.Context) (*result, error) {
	group, ctx := errgroup.WithContext(ctx)
	took := make([][]time.Duration, r.writers)
	before := r.keeper.commits()
	began := time.Now()
	for w := range r.writers {
		group.Go(func() error {
			random := rand.New(rand.NewPCG(uint64(w), uint64(began.UnixNano())))
			own := (r.objects - w + r.writers - 1) / r.writers
			for start := began; r.more(start.Sub(began)); {
				i := w + r.writers*random.IntN(own)
				if err := r.keeper.update(ctx, i, r.values.at(random.Int())); err != nil {
					return fmt.Errorf("update object %d in %s: %w", i, r.keeper.name(), err)
				}
				end := time.Now()
				took[w] = append(took[w], end.Sub(start))
				start = end
			}
			return nil
		})
	}
	err := group.Wait()
	result := &result{elapsed: time.Since(began), commits: r.keeper.commits() - before}
	for _, t := range took {
		result.took = append(result.took, t...)
	}
	return result, err
}

// beside runs the race for as long as work takes.
func (r race) beside(ctx context.Context, work func(context.Context) error) (*result, error) {
	group, ctx := errgroup.WithContext(ctx)
	var over atomic.Bool
	r.more = func(time.Duration) bool { return !over.Load() }
	group.Go(func() error {
		defer over.Store(true)
		return work(ctx)
	})
	result, err := r.run(ctx)
	return result, errors.Join(err, group.Wait())
}

// create makes objects, each with a write of its own as an API server would, so
// that what is measured next has a history like a real one's.
func create(ctx context.Context, objects int, write func(ctx context.Context, i int) error) error {
	const writers = 256
	group, ctx := errgroup.WithContext(ctx)
	for w := range writers {
		group.Go(func() error {
			for i := w; i < objects; i += writers {
				if err := write(ctx, i); err != nil {
					return fmt.Errorf("create object %d: %w", i, err)
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// fill creates objects in a keeper, which is at rest then.
func fill(ctx context.Context, k keeper, objects int, values values) error {
	defer time.Sleep(rest)
	return create(ctx, objects, func(ctx context.Context, i int) error { return k.update(ctx, i, values.at(i)) })
}
