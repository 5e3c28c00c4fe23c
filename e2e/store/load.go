package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/skiff-sh/skiff/e2e/figures"
)

// load has more and more writers update objects in skiff, etcd and a log, in
// turns.
func (b *bench) load(ctx context.Context) error {
	for _, objects := range b.scale.objects {
		if err := b.loadOver(ctx, objects); err != nil {
			return fmt.Errorf("over %d objects: %w", objects, err)
		}
	}
	return nil
}

func (b *bench) loadOver(ctx context.Context, objects int) (err error) {
	dir := filepath.Join(b.dir, fmt.Sprint("load-", objects))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	keepers, closeAll, err := b.keepers(ctx, dir, objects)
	defer func() { err = errors.Join(err, closeAll(), os.RemoveAll(dir)) }()
	if err != nil {
		return err
	}
	values := newValues()
	for _, k := range keepers[:2] { // the log keeps nothing
		if err := fill(ctx, k, objects, values); err != nil {
			return err
		}
	}
	table := newTable(objects)
	for _, writers := range b.scale.writers {
		r := race{writers: writers, objects: objects, values: values, more: during(b.scale.spell)}
		if err := keepers[1].(*etcd).tune(ctx, r); err != nil {
			return fmt.Errorf("%d writers: %w", writers, err)
		}
		rounds, err := b.rounds(ctx, keepers, r)
		if err != nil {
			return fmt.Errorf("%d writers: %w", writers, err)
		}
		b.tell(table, rounds, writers, b.suffix(objects))
	}
	return table.Flush()
}

// suffix tells the figures over more objects from those over the first number.
func (b *bench) suffix(objects int) string {
	if objects == b.scale.objects[0] {
		return ""
	}
	return fmt.Sprint("_", objects)
}

// keepers opens what is compared: skiff, etcd, log.
func (b *bench) keepers(ctx context.Context, dir string, objects int) ([]keeper, func() error, error) {
	var closers []func() error
	closeAll := func() (err error) {
		for _, c := range slices.Backward(closers) {
			err = errors.Join(err, c())
		}
		return err
	}
	s, err := openSkiff(filepath.Join(dir, "skiff.db"), objects)
	if err != nil {
		return nil, closeAll, err
	}
	closers = append(closers, s.close)
	l, err := newLog(filepath.Join(dir, "log"))
	if err != nil {
		return nil, closeAll, err
	}
	closers = append(closers, l.close)
	e, err := startEtcd(ctx, b.etcd, filepath.Join(dir, "etcd"), objects)
	if err != nil {
		return nil, closeAll, err
	}
	closers = append(closers, e.close)
	return []keeper{s, e, l}, closeAll, nil
}

// measured is one race with what it cost.
type measured struct {
	*result
	cost
}

// cpu is the part of some CPU time that went into one update, in microseconds.
func (m measured) cpu(all time.Duration) float64 {
	return float64(all.Microseconds()) / float64(len(m.took))
}

// round has one race of each keeper, in the keepers' order.
type round []measured

// rounds has the keepers race one after the other, another one first each time.
func (b *bench) rounds(ctx context.Context, keepers []keeper, r race) ([]round, error) {
	rounds := make([]round, b.scale.rounds)
	for n := range rounds {
		rounds[n] = make(round, len(keepers))
		for turn := range keepers {
			at := (n + turn) % len(keepers)
			var err error
			r.keeper = keepers[at]
			if rounds[n][at], err = b.measure(ctx, r); err != nil {
				return nil, err
			}
		}
	}
	return rounds, nil
}

func (b *bench) measure(ctx context.Context, r race) (measured, error) {
	runtime.GC() // nobody pays for what another left behind
	m, err := startMeter(b.disk, r.keeper.pids())
	if err != nil {
		return measured{}, err
	}
	result, err := r.run(ctx)
	if err != nil {
		return measured{}, err
	}
	cost, err := m.stop()
	return measured{result, cost}, err
}

// middle is the median over the rounds of one keeper's figure.
func middle(rounds []round, at int, figure func(measured) float64) float64 {
	var all []float64
	for _, r := range rounds {
		all = append(all, figure(r[at]))
	}
	return figures.Median(all)
}

// ratio is the median of skiff's figure over another's in the same round.
func ratio(rounds []round, other int, figure func(measured) float64) float64 {
	var all []float64
	for _, r := range rounds {
		all = append(all, figure(r[0])/figure(r[other]))
	}
	return figures.Median(all)
}
