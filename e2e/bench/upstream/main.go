// Command upstream measures skiff's API server beside upstream's with its etcd, on
// this machine and disk, and writes the figures to a JSON file with flat keys:
// skiff_NAME, upstream_NAME and NAME_ratio, which is skiff's by upstream's.
//
//	upstream -skiff bin/skiff -kube-apiserver build/upstream/kube-apiserver -etcd build/upstream/etcd
//
// Both servers run all the time, without nodes. What is measured is done to one,
// then to the other, in short spells and several rounds; a figure is the median of
// its rounds, a ratio that of the rounds' ratios. Without -kube-apiserver it measures
// skiff alone. scripts/bench-upstream.sh gives it a network namespace. It asserts
// nothing; the table at the end has the aims beside the figures.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	var b bench
	flag.StringVar(&b.skiff, "skiff", "bin/skiff", "skiff's executable")
	flag.StringVar(&b.apiserver, "kube-apiserver", "", "upstream's API server")
	flag.StringVar(&b.etcd, "etcd", "", "its etcd")
	flag.StringVar(&b.before, "before", "", "another executable of skiff, to be in upstream's place: what did a change bring")
	flag.StringVar(&b.dir, "dir", "", "where the servers' data goes and stays (default: a temporary directory)")
	out := flag.String("out", "build/bench-upstream.json", "where to write the figures")
	flag.IntVar(&b.rounds, "rounds", 5, "how often each server gets its turn")
	flag.DurationVar(&b.spell, "spell", time.Second, "how long a turn is")
	flag.DurationVar(&b.quiet, "quiet", time.Minute, "how long to watch the idle servers")
	flag.IntVar(&b.pods, "pods", 10000, "how many Pods are deleted at once")
	only := flag.String("only", "", "comma-separated parts to run: idle, configmaps, list, watch, watchers, pods (default all)")
	flag.StringVar(&b.verbs, "verbs", "", "comma-separated verbs of configmaps (default all; create comes with each)")
	flag.IntVar(&b.clients, "clients", 0, "measure configmaps with so many clients alone (default 1, 8 and 24)")
	flag.Parse()
	// An interrupt ends what is being measured, which then cleans up.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := b.run(ctx, *out, *only); err != nil {
		fmt.Fprintln(os.Stderr, "bench-upstream:", err)
		os.Exit(1)
	}
}

// bench is one run of the program.
type bench struct {
	skiff, before, apiserver, etcd string
	dir                            string
	rounds, pods, clients          int
	verbs                          string
	spell, quiet                   time.Duration
	sides                          []*side
	results                        *results
}

func (b *bench) run(ctx context.Context, out, only string) (err error) {
	b.results = newResults(out)
	defer func() { err = errors.Join(err, b.stop()) }()
	if err := b.start(ctx); err != nil {
		return err
	}
	defer func() {
		b.results.print(os.Stdout)
		err = errors.Join(err, b.results.write())
	}()
	for _, part := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"idle", b.idle}, // before there is anything to remember
		{"configmaps", b.configMaps}, {"list", b.list}, {"watch", b.watch}, {"watchers", b.watchers},
		{"pods", b.manyPods}, // what it leaves behind in the servers' memory would count for the others
	} {
		if only != "" && !slices.Contains(strings.Split(only, ","), part.name) {
			continue
		}
		began := time.Now()
		if err := part.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
		fmt.Printf("%s: %.0f s\n", part.name, time.Since(began).Seconds())
	}
	return nil
}

// turns calls fn for each side in turn, several times.
func (b *bench) turns(fn func(round int, s *side) error) error {
	for round := range b.rounds {
		for _, s := range b.sides {
			if err := fn(round, s); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
