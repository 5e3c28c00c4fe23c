// Command conformance is make conformance: it runs upstream's own suite, built
// from its unmodified source, against a cluster of two nodes, and says whether
// every spec did what specs.txt says of it.
//
//	conformance [-focus REGEXP] [-skip REGEXP] [-passing] [-procs N] [-timeout D]
//
// The stages are in main.go: programs (programs.go) and images (image.go) are
// built below build/conformance unless they are there already, the cluster
// (cluster.go) is that of e2e/cluster/run, with a registry of these images
// (mirror.go), and the suite (suite.go) runs inside its server's network. A Verdict compares what came of it with the List. The
// invariant: however it ends, an interrupt included, nothing of the cluster is
// left. It leaves out only specs that
// would spoil the others (see deadly), and tries none twice.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"time"

	"golang.org/x/sys/unix"
)

// listFile says what is expected of each spec.
const listFile = "e2e/conformance/specs.txt"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// options are what the command line chooses.
type options struct {
	focus, skip *regexp.Regexp // nil where all are meant
	passing     bool           // only specs that wait for nothing
	procs       int
	timeout     time.Duration
}

func parse(args []string) (options, error) {
	var o options
	pattern := func(to **regexp.Regexp) func(string) error {
		return func(s string) (err error) {
			if s != "" {
				*to, err = regexp.Compile(s)
			}
			return err
		}
	}
	flags := flag.NewFlagSet("conformance", flag.ContinueOnError)
	flags.Func("focus", "run only specs whose name matches", pattern(&o.focus))
	flags.Func("skip", "leave out specs whose name matches", pattern(&o.skip))
	flags.BoolVar(&o.passing, "passing", false, "leave out specs that wait for something")
	flags.IntVar(&o.procs, "procs", 4, "how many specs run side by side")
	flags.DurationVar(&o.timeout, "timeout", 3*time.Hour, "when the suite is interrupted")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 || o.procs < 1 || o.procs > 64 {
		return o, errors.New("usage: conformance [-focus REGEXP] [-skip REGEXP] [-passing] [-procs 1…64] [-timeout D]")
	}
	return o, nil
}

// place is where everything is.
type place struct {
	root string // the repository
	dir  string // build/conformance
}

func (p place) built(name string) string { return filepath.Join(p.dir, name) }

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	o, err := parse(args)
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("a cluster in namespaces needs root: sudo make conformance")
	}
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	p := place{root: root, dir: filepath.Join(root, "build", "conformance")}
	list, err := readList(listFile)
	if err != nil {
		return fmt.Errorf("%w: run it in the repository's directory", err)
	}
	t := &timer{out: out}
	c := &cluster{place: p}
	// Only what has started a cluster stops it, and then always.
	defer func() { err = errors.Join(err, t.stage("stop the cluster", c.stop)); t.tell() }()
	for _, s := range []struct {
		name string
		do   func() error
	}{
		{"build upstream's programs", func() error { return buildPrograms(ctx, p, out) }},
		{"make the images", func() error { return makeImages(ctx, p, out) }},
		{"compare the names", func() error { return compareNames(ctx, p, list) }},
		{"start the cluster", func() error { return c.start(ctx) }},
		{"import the images", func() error { return c.importImages(ctx) }},
		{"serve the images", c.serveMirror},
		{"run the specs", func() error { return runSuite(ctx, p, c, o, list, out) }},
	} {
		if err := t.stage(s.name, s.do); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	results, err := readReport(p.report())
	if err != nil {
		return err
	}
	v := judge(list.chosen(o), results)
	v.print(out)
	return v.err()
}

// chosen are the specs that were asked for.
func (l List) chosen(o options) List {
	specs := maps.Clone(l.specs)
	maps.DeleteFunc(specs, func(name, word string) bool {
		return o.focus != nil && !o.focus.MatchString(name) || o.skip != nil && o.skip.MatchString(name) || o.passing && word != Passes
	})
	return List{words: l.words, specs: specs}
}

// timer tells how long each stage took.
type timer struct {
	out    io.Writer
	stages []stage
}

type stage struct {
	name string
	took time.Duration
}

func (t *timer) stage(name string, do func() error) error {
	begin := time.Now()
	err := do()
	t.stages = append(t.stages, stage{name, time.Since(begin)})
	return err
}

func (t *timer) tell() {
	for _, s := range t.stages {
		fmt.Fprintf(t.out, "%-28s %s\n", s.name, s.took.Round(100*time.Millisecond))
	}
}
