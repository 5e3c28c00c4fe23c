// Command twin asks upstream's kube-apiserver and skiff's server the same, and says
// where their answers differ.
//
// A Resource is a kind that skiff serves, with valid objects from bases and with
// Mutations drawn from upstream's schema of it; a scenario is a sequence of Requests
// that a number and the seed determine; sequences, of which the first scenario plays all,
// are written by hand, of what drawing would hardly bring about; compare finds the
// Differences of two Answers; a Report groups them by kind and shape. The invariant: a
// difference that is told was seen twice, in two runs of its scenario, and the same seed
// gives the same requests. What each server chooses itself (identities, times, revisions, addresses)
// counts as the same where one of upstream stands for one of skiff throughout.
//
// Both servers run without controllers and are set alike: see package
// e2e/upstream, which starts them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/skiff-sh/skiff/e2e/upstream"
)

// options are what the command is told.
type options struct {
	requests  int
	seed      uint64
	kind      string
	single    int // the number of the only scenario; -1: all
	skiff     string
	programs  string // directory of kube-apiserver and etcd
	reports   string // directory for a file per resource
	documents bool
	proof     int // how many rules to take out of skiff; 0: compare
	reach     bool
	module    string // directory of the module that kube-apiserver is built from
}

func main() {
	var o options
	flag.IntVar(&o.requests, "requests", 20000, "requests to send to each server")
	flag.Uint64Var(&o.seed, "seed", 1, "what the requests are drawn from")
	flag.StringVar(&o.kind, "kind", "", "only this resource (pods, deployments.apps) or kind")
	flag.IntVar(&o.single, "case", -1, "only the scenario of this number, with all it asks and is told")
	flag.StringVar(&o.skiff, "skiff", "bin/skiff", "skiff's executable")
	flag.StringVar(&o.programs, "upstream", "build/upstream", "directory of kube-apiserver and etcd")
	flag.StringVar(&o.reports, "reports", "build/twin", "directory for the differences of each resource")
	flag.BoolVar(&o.documents, "documents", false, "only compare what upstream publishes")
	flag.StringVar(&o.module, "module", "e2e/twin/apiserver", "directory of the module that kube-apiserver is built from")
	flag.IntVar(&o.proof, "proof", 0, "take so many rules out of skiff, one after the other, and see that each is missed")
	flag.BoolVar(&o.reach, "reach", false, "only list the rules of skiff that no request of three seeds comes to")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "twin:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	if o.proof > 0 {
		return prove(ctx, o)
	}
	if o.reach {
		return reach(ctx, o)
	}
	return o.withBoth(ctx, nil, func(theirs, ours *upstream.Server) error {
		t, err := newTrial(ctx, o, theirs, ours)
		if err != nil {
			return err
		}
		if !o.documents {
			if err := t.run(ctx); err != nil {
				return err
			}
		}
		if o.documents || o.kind == "" && o.single < 0 {
			if err := t.documents(ctx); err != nil {
				return err
			}
		}
		return t.judge()
	})
}

// withBoth starts both servers for a function, skiff's with more environment.
func (o options) withBoth(ctx context.Context, environment []string, use func(theirs, ours *upstream.Server) error) (err error) {
	theirs, err := o.upstream().Start(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, theirs.Stop()) }()
	ours, err := upstream.Skiff{Executable: o.skiff, Environment: environment}.Start(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ours.Stop()) }()
	return use(theirs, ours)
}

func (o options) upstream() upstream.Kubernetes {
	return upstream.Kubernetes{APIServer: o.programs + "/kube-apiserver", Etcd: o.programs + "/etcd", Fast: true}
}
