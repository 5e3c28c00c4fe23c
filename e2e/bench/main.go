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
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

func main() {
	var b bench
	flag.StringVar(&b.skiff, "skiff", "bin/skiff", "the executable to measure")
	flag.StringVar(&b.out, "out", "build/bench.json", "where to write the figures")
	flag.DurationVar(&b.quiet, "quiet", 3*time.Minute, "how long to watch the idle server")
	flag.IntVar(&b.runs, "runs", 3, "runs of what is short")
	only := flag.String("only", "", "comma-separated parts to run: size, start, idle, pods, service, api (default all)")
	flag.Parse()
	b.figures = map[string]float64{}
	if err := b.run(context.Background(), *only); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench is one run of the program.
type bench struct {
	skiff   string
	out     string
	quiet   time.Duration
	runs    int
	figures map[string]float64
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
			return errors.Join(fmt.Errorf("%s: %w", part.name, err), b.write())
		}
	}
	return b.write()
}

// set notes a figure and prints it.
func (b *bench) set(key string, value float64) {
	b.figures[key] = value
	fmt.Printf("%-32s %14.3f\n", key, value)
}

// write merges the figures into what the file has, so that parts can be
// measured again one at a time.
func (b *bench) write() error {
	all := map[string]float64{}
	if old, err := os.ReadFile(b.out); err == nil {
		if err := json.Unmarshal(old, &all); err != nil {
			return fmt.Errorf("read %s: %w", b.out, err)
		}
	}
	maps.Copy(all, b.figures)
	data, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(b.out), 0o755); err != nil {
		return err
	}
	return os.WriteFile(b.out, append(data, '\n'), 0o644)
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// percentile returns the p-th part (0 to 1) of the sorted values.
func percentile(values []time.Duration, p float64) time.Duration {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(len(sorted)-1, int(p*float64(len(sorted))))]
}

func median(values []time.Duration) float64 { return milliseconds(percentile(values, 0.5)) }
