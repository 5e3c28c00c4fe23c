// Command store measures skiff's store beside etcd and beside a bare log on the
// same disk, prints tables and writes the figures to a JSON file with flat keys.
//
//	store -etcd build/etcd/usr/bin/etcd -bench build/bench -skiff bin/skiff -out build/bench-store.json
//
// A keeper is one of the three under load; a race is what several writers do to
// it for a while; a meter says what that cost. What is compared takes turns, in
// short rounds; figures are medians over the rounds, and ratios are medians of
// the ratios within a round. scripts/bench-store.sh gets everything it needs. It
// asserts nothing.
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
	flag.StringVar(&b.etcd, "etcd", "build/etcd/usr/bin/etcd", "etcd's executable")
	flag.StringVar(&b.bench, "bench", "build/bench", "the program that measures an idle server")
	flag.StringVar(&b.skiff, "skiff", "bin/skiff", "skiff's executable")
	work := flag.String("dir", "build", "where to write what is measured: its disk is the one that counts")
	out := flag.String("out", "build/bench-store.json", "where to write the figures (a quick run's: beside it)")
	// Skiff's heartbeats may wait in memory for ten minutes: less would miss them.
	flag.DurationVar(&b.quiet, "idle", 10*time.Minute, "how long to watch each idle cluster")
	quick := flag.Bool("quick", false, "see in half a minute that everything works; the figures mean nothing")
	only := flag.String("only", "", "comma-separated parts to run: load, open, compact, snapshot, idle (default all)")
	opened := flag.String("open", "", "open what is at this path, print what that took, and end")
	decode := flag.Bool("decode", false, "with -open: the state over the store too")
	flag.Parse()
	// An interrupt ends what is being measured, which then cleans up.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	b.scale = full
	if *quick { // its figures must not be taken for real ones
		b.scale, b.quick, b.quiet, *out = small, true, 3*time.Second, *out+".quick"
	}
	b.sheet = figures.NewSheet(*out)
	var err error
	if *opened != "" {
		err = openAndTell(ctx, *opened, *decode)
	} else {
		err = b.run(ctx, *work, *only)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-store:", err)
		os.Exit(1)
	}
}

// bench is one run of the program.
type bench struct {
	etcd, bench, skiff string
	dir                string // a fresh one, removed at the end
	disk               *figures.Disk
	quiet              time.Duration
	quick              bool
	scale              scale
	sheet              *figures.Sheet
}

// scale is how much is measured.
type scale struct {
	objects []int         // existing ones under load
	writers []int         // at once
	spell   time.Duration // of one round
	rounds  int
	opened  []int // objects of what is opened
	space   int   // objects of what is compacted and copied
}

var (
	full = scale{
		objects: []int{20_000, 200_000}, writers: []int{1, 16, 64, 256, 1000}, spell: 3 * time.Second, rounds: 5,
		opened: []int{20_000, 100_000}, space: 100_000,
	}
	small = scale{
		objects: []int{2_000}, writers: []int{1, 16, 64, 256, 1000}, spell: 200 * time.Millisecond, rounds: 1,
		opened: []int{2_000}, space: 5_000,
	}
)

func (b *bench) run(ctx context.Context, work, only string) (err error) {
	for _, path := range []*string{&b.etcd, &b.bench, &b.skiff} {
		if *path, err = filepath.Abs(*path); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(work, 0o755); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp(work, "store-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	if b.dir, err = filepath.Abs(b.dir); err != nil {
		return err
	}
	if b.disk, err = figures.DiskUnder(b.dir); err != nil {
		return err
	}
	if err := b.introduce(ctx); err != nil {
		return err
	}
	return b.parts(ctx, only)
}

func (b *bench) parts(ctx context.Context, only string) error {
	for _, part := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"load", b.load}, {"open", b.open}, {"compact", b.compact}, {"snapshot", b.snapshot}, {"idle", b.idle},
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
