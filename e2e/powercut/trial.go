package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/skiff-sh/skiff/e2e/powercut/disk"
	"github.com/skiff-sh/skiff/e2e/powercut/load"
)

// trial is boot after boot of one build of the guest on one disk.
type trial struct {
	settings settings
	compact  bool // in every boot
	machine  *machine
	model    *load.Model

	image  []byte     // a new disk's
	before []byte     // what was on the disk when the current boot began
	log    [][]string // what the guest has told in the last boots
	begun  time.Time
	totals totals
}

type totals struct {
	cuts, early, commits, operations int
	lost                             disk.Lost
}

// brokenError says what was wrong after a cut.
type brokenError struct {
	seed  uint64
	cut   int // the last one before it was found
	wrong []string
}

func (b *brokenError) Error() string {
	shown := b.wrong
	if len(shown) > 20 {
		shown = append(shown[:20:20], fmt.Sprintf("and %d more", len(b.wrong)-20))
	}
	return fmt.Sprintf("after cut %d (seed %d):\n  %s", b.cut, b.seed, strings.Join(shown, "\n  "))
}

// newTrial makes the disk and a machine that is ready.
func newTrial(ctx context.Context, s settings, dir, program string) (*trial, error) {
	k, err := findKernel(s.kernel)
	if err != nil {
		return nil, err
	}
	archive, err := makeInitramfs(k, program)
	if err != nil {
		return nil, err
	}
	initrd := filepath.Join(dir, "initrd")
	if err := os.WriteFile(initrd, archive, 0o644); err != nil {
		return nil, err
	}
	image, err := makeExt4(ctx, dir)
	if err != nil {
		return nil, err
	}
	t := &trial{
		settings: s, model: load.NewModel(), begun: time.Now(),
		image: image, machine: &machine{dir: dir, kernel: k.image, initrd: initrd, disk: disk.New(bytes.Clone(image), hasMeta)},
	}
	return t, t.machine.remember(ctx)
}

// run cuts the power as often as it should, and looks at what the last cut has
// left.
func (t *trial) run(ctx context.Context) error {
	for number := range t.settings.cuts + 1 {
		plan := planLoad(t.settings.seed, number, t.compact)
		cut := planCut(plan)
		cut.loss.Whole = ext4Whole
		if number == t.settings.cuts {
			cut = cutPlan{begin: fromLoad, acks: 1, loss: disk.Loss{Unit: disk.Sector}, random: plan.Random(forLoss)}
		}
		if cut.fresh {
			t.renew()
		}
		plan.Known = t.model.Known()
		t.before = t.machine.disk.Image()
		b := &boot{trial: t, plan: plan, cut: cut}
		wrong, err := b.run(ctx)
		t.log = append(t.log, b.log)
		t.log = t.log[max(0, len(t.log)-3):]
		if err != nil {
			return fmt.Errorf("boot %d (seed %d): %w:\n  %s", number, t.settings.seed, err, strings.Join(b.log[max(0, len(b.log)-20):], "\n  "))
		}
		if len(wrong) > 0 {
			return &brokenError{t.settings.seed, t.totals.cuts, wrong}
		}
		t.end(number, b)
	}
	return nil
}

// renew puts a new disk into the machine.
func (t *trial) renew() {
	t.machine.disk.Fill(t.image)
	t.totals.commits += t.model.Commits
	t.totals.operations += t.model.Operations
	t.model = load.NewModel()
}

// end notes a cut that has come.
func (t *trial) end(number int, b *boot) {
	lost := t.machine.disk.Lose(b.cut.random, b.cut.loss)
	if number == t.settings.cuts {
		return // the last look
	}
	t.totals.cuts++
	if !b.checked {
		t.totals.early++
	}
	t.totals.lost.Pending += lost.Pending
	t.totals.lost.Dropped += lost.Dropped
	t.totals.lost.Torn += lost.Torn
	line := fmt.Sprintf("cut %d %s: %d commits acknowledged; of %d writes %d dropped, %d torn",
		t.totals.cuts, b.cut, b.acks, lost.Pending, lost.Dropped, lost.Torn)
	t.log[len(t.log)-1] = append(t.log[len(t.log)-1], line)
	switch {
	case t.settings.verbose:
		fmt.Println(line)
	case t.totals.cuts%20 == 0 && !t.settings.proof:
		fmt.Println(t.summary())
	}
}

// summary says what was done so far.
func (t *trial) summary() string {
	counts := t.machine.disk.Counts()
	return fmt.Sprintf("%d cuts (%d before the store was open) in %s, seed %d: %d commits with %d operations acknowledged; "+
		"%d writes and %d flushes came to the disk, of %d writes under way %d were dropped and %d torn",
		t.totals.cuts, t.totals.early, time.Since(t.begun).Round(time.Second), t.settings.seed,
		t.totals.commits+t.model.Commits, t.totals.operations+t.model.Operations, counts.Writes, counts.Flushes,
		t.totals.lost.Pending, t.totals.lost.Dropped, t.totals.lost.Torn)
}

// keep leaves what is needed to look into a failure.
func (t *trial) keep(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	image := filepath.Join(dir, "disk.img")
	if err := os.WriteFile(image, t.before, 0o644); err != nil {
		return err
	}
	var lines []string
	for _, log := range t.log {
		lines = append(append(lines, log...), "")
	}
	log := filepath.Join(dir, "log")
	if err := os.WriteFile(log, []byte(strings.Join(lines, "\n")), 0o644); err != nil {
		return err
	}
	fmt.Printf("%s is the disk as the last cut left it, before recovery; %s what the guest told in the last boots\n", image, log)
	return nil
}
