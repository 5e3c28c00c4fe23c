// Command hollow measures what a cluster of many nodes asks of its server, with
// hollow nodes: how long they take to join, what each costs the server and the
// process that they run in, and what they cost when nothing happens.
//
//	hollow -skiff bin/skiff -out build/bench-hollow.json -nodes 100,500,1000
//
// For each number of nodes it runs a server without a node of its own, on the port
// of servers on this machine's loopback, and removes it again; scripts/bench-hollow.sh
// gives it a network namespace. It prints a table and writes a JSON file with flat
// keys. It asserts nothing.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/skiff-sh/skiff/e2e/figures"
)

func main() {
	var b bench
	flag.StringVar(&b.skiff, "skiff", "bin/skiff", "the executable to measure")
	flag.StringVar(&b.dir, "dir", "", "where to keep the data meanwhile (default: the system's place for temporary files)")
	out := flag.String("out", "build/bench-hollow.json", "where to write the figures")
	counts := flag.String("nodes", "100,500,1000", "how many nodes, one after the other")
	flag.DurationVar(&b.quiet, "quiet", 45*time.Second, "how long to watch when nothing happens")
	flag.Parse()
	b.sheet = figures.NewSheet(*out)
	// An interrupt ends what is being measured, which then cleans up.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := b.run(ctx, strings.Split(*counts, ",")); err != nil {
		fmt.Fprintln(os.Stderr, "hollow:", err)
		os.Exit(1)
	}
}

// bench is one run of the program.
type bench struct {
	skiff, dir string
	quiet      time.Duration
	sheet      *figures.Sheet
	table      table
}

func (b *bench) run(ctx context.Context, counts []string) (err error) {
	if b.skiff, err = filepath.Abs(b.skiff); err != nil {
		return err
	}
	for i, text := range counts {
		n, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("-nodes: %w", err)
		}
		if err := b.measure(ctx, n, i == len(counts)-1); err != nil {
			return errors.Join(fmt.Errorf("%d nodes: %w", n, err), b.sheet.Write())
		}
	}
	fmt.Print(b.table.String())
	return b.sheet.Write()
}

// set notes a figure of some number of nodes.
func (b *bench) set(nodes int, key, unit string, value float64) {
	b.sheet.Set(fmt.Sprintf("hollow_%d_%s", nodes, key), value)
	b.table.set(nodes, strings.ReplaceAll(key, "_", " "), unit, value)
	fmt.Fprintf(os.Stderr, "%5d nodes  %-44s %s\n", nodes, key, show(value, unit))
}

// measure measures one number of nodes; mesh says whether also what is the same for
// all of them.
func (b *bench) measure(ctx context.Context, nodes int, mesh bool) (err error) {
	dir, err := os.MkdirTemp(b.dir, "skiff-hollow-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s, err := startServer(ctx, b.skiff, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	t := &trial{bench: b, nodes: nodes, server: s, dir: dir}
	defer func() { err = errors.Join(err, t.crowd.stop()) }()
	steps := []func(context.Context) error{t.empty, t.join, t.idle, t.pods, t.restart}
	if mesh {
		steps = append(steps, t.watchers)
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}
