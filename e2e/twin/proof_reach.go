package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/skiff-sh/skiff/e2e/upstream"
)

// reach prints the rules that no request of the proof's seeds comes to: a rule that
// never objects cannot be missed.
func reach(ctx context.Context, o options) error {
	dir, err := os.MkdirTemp("", "twin-reach-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s, rules, err := rulesOf(o.kind)
	if err != nil {
		return err
	}
	if o.skiff, err = s.build(ctx, rules, dir); err != nil {
		return err
	}
	reached := map[int]bool{}
	for range proofSeeds {
		if err := reachWith(ctx, o, filepath.Join(dir, "reached"), reached); err != nil {
			return err
		}
		fmt.Printf("%d of %d rules were reached, seed %d included\n", len(reached), len(rules), o.seed)
		o.seed++
	}
	for n, r := range rules {
		if !reached[n] {
			fmt.Println("NOT REACHED", r)
		}
	}
	return nil
}

// reachWith plays one seed and adds what skiff says it came to.
func reachWith(ctx context.Context, o options, file string, reached map[int]bool) (err error) {
	theirs, err := upstream.Kubernetes{APIServer: o.programs + "/kube-apiserver", Etcd: o.programs + "/etcd", Fast: true}.Start(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, theirs.Stop()) }()
	ours, err := upstream.Skiff{Executable: o.skiff, Environment: []string{reachedFile + "=" + file}}.Start(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ours.Stop()) }()
	t, err := newTrial(ctx, o, theirs, ours)
	if err != nil {
		return err
	}
	t.plots = proofPlots
	if err := t.run(ctx); err != nil {
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
		reached[n] = true
	}
	return nil
}
