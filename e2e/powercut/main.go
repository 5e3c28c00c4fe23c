// Powercut takes the power away from a machine whose store writes, again and
// again, and checks what is left each time.
//
// A machine is Debian's cloud kernel under QEMU, emulated, with an initramfs
// that holds one program of ours (guest). Its disk is served by this process over
// NBD (disk, nbd), so that a cut can take any of the writes that no flush has
// covered. What the guest writes, and what may be found afterwards, is decided
// by load. A run is boots, each of which checks what the last cut has left,
// writes on, and ends at a moment that the seed chooses; a trial is a run of a
// certain build of the guest, and a fault is a build that must not survive one.
//
// The invariant: the disk loses nothing that a flush has covered, so whatever is
// wrong after a cut is the fault of the store, of bbolt, or of the kernel.
//
// See make powercut and make powercut-proof.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// settings are what the command line says.
type settings struct {
	kernel  string
	keep    string
	cuts    int
	seed    uint64
	proof   bool
	fault   string
	verbose bool
}

func main() {
	var s settings
	flag.StringVar(&s.kernel, "kernel", "build/powercut", "`directory` that kernel.sh has filled")
	flag.StringVar(&s.keep, "keep", "build/powercut/failed", "`directory` that gets the disk and the log of a failure")
	flag.IntVar(&s.cuts, "cuts", 200, "number of cuts; with -proof, within which each fault must be caught")
	flag.Uint64Var(&s.seed, "seed", 0, "decides moments, losses and writes; 0: a random one")
	flag.BoolVar(&s.proof, "proof", false, "try builds of the store that do what it must not: each must be caught")
	flag.StringVar(&s.fault, "fault", "", "with -proof, only the one whose name has this `text` in it")
	flag.BoolVar(&s.verbose, "v", false, "print every cut")
	flag.Parse()
	if s.seed == 0 {
		s.seed = uint64(time.Now().UnixNano()) % 1_000_000
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, s)
	if ctx.Err() != nil {
		err = errors.New("interrupted")
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "powercut:", err)
		os.Exit(1)
	}
}

// run makes what the machine needs in a directory that goes with it.
func run(ctx context.Context, s settings) error {
	dir, err := os.MkdirTemp("", "powercut-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if !s.proof {
		return survive(ctx, s, dir)
	}
	var missed []error
	for _, f := range faults {
		if !strings.Contains(f.name, s.fault) {
			continue
		}
		if err := catch(ctx, s, dir, f); err != nil {
			missed = append(missed, fmt.Errorf("%s: %w", f.name, err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(missed...)
}

// survive has the store as it is go through all cuts.
func survive(ctx context.Context, s settings, dir string) error {
	program := filepath.Join(dir, "guest")
	if err := build(ctx, program, nil); err != nil {
		return err
	}
	t, err := newTrial(ctx, s, dir, program)
	if err != nil {
		return err
	}
	err = t.run(ctx)
	fmt.Println(t.summary())
	var broken *brokenError
	if errors.As(err, &broken) {
		if kept := t.keep(s.keep); kept != nil {
			err = errors.Join(err, kept)
		}
	}
	return err
}

// catch has a build with a fault go through cuts until one shows it.
func catch(ctx context.Context, s settings, dir string, f fault) error {
	program := filepath.Join(dir, "guest")
	if err := build(ctx, program, &f); err != nil {
		return err
	}
	t, err := newTrial(ctx, s, dir, program)
	if err != nil {
		return err
	}
	t.compact = f.compact
	err = t.run(ctx)
	var broken *brokenError
	switch {
	case errors.As(err, &broken):
		fmt.Printf("%s: caught by cut %d: %s\n", f.name, broken.cut, broken.wrong[0])
		return nil
	case err == nil:
		return fmt.Errorf("%d cuts did not show it (seed %d)", s.cuts, s.seed)
	}
	return err
}
