package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/skiff-sh/skiff/e2e/upstream"
)

// prove takes out rules, one at a time, and counts how many the twin misses.
func prove(ctx context.Context, o options) error {
	dir, err := os.MkdirTemp("", "twin-proof-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s, err := readSources("internal/kind")
	if err != nil {
		return err
	}
	rules := s.rules()
	random := rand.New(rand.NewPCG(o.seed, 0x9007))
	random.Shuffle(len(rules), func(i, j int) { rules[i], rules[j] = rules[j], rules[i] })
	fmt.Printf("%d rules in internal/kind; %d of them are taken out, one at a time\n", len(rules), min(o.proof, len(rules)))
	rules = rules[:min(o.proof, len(rules))]
	overlay, err := s.overlay(rules, dir)
	if err != nil {
		return err
	}
	o.skiff = filepath.Join(dir, "skiff")
	build := exec.CommandContext(ctx, "go", "build", "-tags", "grpcnotrace", "-overlay", overlay, "-o", o.skiff, ".")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("build skiff with switches: %w", err)
	}
	return proveRules(ctx, o, rules)
}

// proof runs variants of skiff beside one upstream server.
type proof struct {
	options options
	theirs  *upstream.Server
	usual   map[string]map[string]bool // by resource: the groups of skiff with all rules
}

func proveRules(ctx context.Context, o options, rules []rule) error {
	theirs, err := upstream.Kubernetes{APIServer: o.programs + "/kube-apiserver", Etcd: o.programs + "/etcd", Fast: true}.Start(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = theirs.Stop() }()
	p := &proof{options: o, theirs: theirs, usual: map[string]map[string]bool{}}
	found := 0
	for i, r := range rules {
		shape, err := p.rule(ctx, i, r)
		if err != nil {
			return err
		}
		verdict := "MISSED"
		if shape != "" {
			verdict = "seen  "
			found++
		}
		fmt.Printf("%3d %s %s\n           %s\n", i, verdict, r, shorten(shape, 200))
	}
	fmt.Printf("%d of %d removed rules were seen\n", found, len(rules))
	if missed := len(rules) - found; missed*25 > len(rules) {
		return fmt.Errorf("the twin missed %d of %d", missed, len(rules))
	}
	return nil
}

// rule runs skiff without one rule on the resources that the rule is about, and
// returns the first difference that skiff with all rules does not show.
func (p *proof) rule(ctx context.Context, n int, r rule) (string, error) {
	for _, resource := range concerned(r.file) {
		if p.usual[resource] == nil {
			groups, err := p.groups(ctx, resource, -1, nil)
			if err != nil {
				return "", err
			}
			p.usual[resource] = groups
		}
		groups, err := p.groups(ctx, resource, n, p.usual[resource])
		if err != nil {
			return "", err
		}
		for shape := range groups {
			if !p.usual[resource][shape] {
				return resource + ": " + shape, nil
			}
		}
	}
	return "", nil
}

// concerned are the resources on which a rule of a file shows: its own, or those that
// have Pods in them, or a few of all kinds.
func concerned(file string) []string {
	name, _, _ := strings.Cut(strings.TrimSuffix(file, ".go"), "_")
	own := map[string][]string{
		"certificatesigningrequest": {"certificatesigningrequests.certificates.k8s.io"},
		"configmap":                 {"configmaps"},
		"deployment":                {"deployments.apps"},
		"endpoints":                 {"endpoints"},
		"endpointslice":             {"endpointslices.discovery.k8s.io"},
		"event":                     {"events", "events.events.k8s.io"},
		"lease":                     {"leases.coordination.k8s.io"},
		"meta":                      {"configmaps", "namespaces", "pods"},
		"namespace":                 {"namespaces"},
		"node":                      {"nodes"},
		"priorityclass":             {"priorityclasses.scheduling.k8s.io"},
		"replicaset":                {"replicasets.apps"},
		"secret":                    {"secrets"},
		"service":                   {"services"},
		"serviceaccount":            {"serviceaccounts"},
		"template":                  {"deployments.apps", "replicasets.apps"},
	}
	if resources := own[name]; resources != nil {
		return resources
	}
	return []string{"pods", "deployments.apps"}
}

// groups runs skiff without rule n (-1: with all) on one resource and returns the
// shapes of the differences. Given those that are usual, it ends with the first that
// is not.
func (p *proof) groups(ctx context.Context, resource string, n int, usual map[string]bool) (_ map[string]bool, err error) {
	ours, err := upstream.Skiff{Executable: p.options.skiff, Environment: []string{removed + "=" + strconv.Itoa(n)}}.Start(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, ours.Stop()) }()
	o := p.options
	o.kind = resource
	t, err := newTrial(ctx, o, p.theirs, ours)
	if err != nil {
		return nil, err
	}
	ctx, enough := context.WithCancel(ctx)
	defer enough()
	if usual != nil {
		t.report.noted = func(g *Group) {
			if !usual[g.Shape] {
				enough()
			}
		}
	}
	if err := t.run(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return nil, err
	}
	shapes := map[string]bool{}
	for _, g := range t.report.groups {
		shapes[g.Shape] = true
	}
	return shapes, nil
}
