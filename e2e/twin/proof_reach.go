package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/skiff-sh/skiff/e2e/upstream"
)

// reach prints the rules that no request of the proof's seeds comes to, and those that
// only one seed's do: where a rule never objects, nobody misses it.
func reach(ctx context.Context, o options) error {
	s, rules, err := rulesOf(o.kind)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "twin-reach-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if o.skiff, err = s.build(ctx, rules, dir); err != nil {
		return err
	}
	reached := map[int]int{} // by how many seeds
	for i := range proofSeeds {
		if err := reachWith(ctx, o, filepath.Join(dir, "reached-"+itoa(i)), reached); err != nil {
			return err
		}
		fmt.Printf("%d of %d rules were reached, seed %d included\n", len(reached), len(rules), o.seed)
		o.seed++
	}
	for n, r := range rules {
		switch reached[n] {
		case 0:
			fmt.Println("NOT REACHED", r)
		case 1:
			fmt.Println("reached once", r)
		}
	}
	return nil
}

// reachWith plays one seed and adds what skiff says it came to.
func reachWith(ctx context.Context, o options, file string, reached map[int]int) error {
	err := o.withBoth(ctx, []string{reachedFile + "=" + file}, func(theirs, ours *upstream.Server) error {
		t, err := newTrial(ctx, o, theirs, ours)
		if err != nil {
			return err
		}
		t.plots = proofPlots
		return t.run(ctx)
	})
	if err != nil {
		return err
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	for line := range strings.FieldsSeq(string(data)) {
		n, err := strconv.Atoi(line)
		if err != nil {
			return err
		}
		reached[n]++
	}
	return nil
}
