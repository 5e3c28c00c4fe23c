// Command bench measures what a user of skiff feels, and what skiff costs, on
// this machine, and writes the figures to a JSON file with flat keys.
//
//	bench -skiff bin/skiff -out build/bench.json
//
// It runs servers of its own on the machine's default ports and removes them
// again; scripts/bench.sh gives it a network namespace. Figures are medians of
// several runs where a run is short. It asserts nothing.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/skiff-sh/skiff/e2e/figures"
)

func main() {
	var b bench
	flag.StringVar(&b.skiff, "skiff", "bin/skiff", "the executable to measure")
	out := flag.String("out", "build/bench.json", "where to write the figures")
	flag.DurationVar(&b.quiet, "quiet", 3*time.Minute, "how long to watch the idle server")
	flag.IntVar(&b.runs, "runs", 3, "runs of what is short")
	only := flag.String("only", "", "comma-separated parts to run: size, start, idle, pods, service, api (default all)")
	flag.Parse()
	b.sheet = figures.NewSheet(*out)
	// An interrupt ends what is being measured, which then cleans up.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := b.run(ctx, *only); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench is one run of the program.
type bench struct {
	skiff string
	quiet time.Duration
	runs  int
	sheet *figures.Sheet
}

func (b *bench) run(ctx context.Context, only string) error {
	var err error
	if b.skiff, err = filepath.Abs(b.skiff); err != nil {
		return err
	}
	for _, part := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"size", b.size}, {"start", b.starts}, {"idle", b.idle},
		{"pods", b.pods}, {"service", b.services}, {"api", b.api},
	} {
		if only != "" && !slices.Contains(strings.Split(only, ","), part.name) {
			continue
		}
		if err := part.do(ctx); err != nil {
			return errors.Join(fmt.Errorf("%s: %w", part.name, err), b.sheet.Write())
		}
	}
	return b.sheet.Write()
}

// set notes a figure and prints it.
func (b *bench) set(key string, value float64) {
	b.sheet.Set(key, value)
	fmt.Printf("%-32s %14.3f\n", key, value)
}

func milliseconds(d time.Duration) float64 { return figures.Milliseconds(d) }

func median(values []time.Duration) float64 { return milliseconds(figures.Median(values)) }
