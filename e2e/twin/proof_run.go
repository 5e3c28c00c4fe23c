package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/skiff-sh/skiff/e2e/upstream"
)

// proofSeeds is with how many seeds, one after the other, the twin looks for a rule that
// is missing: with so many it must find no difference in skiff as it is.
const proofSeeds = 3

// prove takes out rules, one at a time for each resource, and counts how many the twin
// misses. Given one resource, it takes only that one's rules.
func prove(ctx context.Context, o options) error {
	dir, err := os.MkdirTemp("", "twin-proof-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s, rules, err := rulesOf(o.kind)
	if err != nil {
		return err
	}
	random := rand.New(rand.NewPCG(o.seed, 0x9007))
	random.Shuffle(len(rules), func(i, j int) { rules[i], rules[j] = rules[j], rules[i] })
	fmt.Printf("%d rules in internal/kind; %d of them are taken out, one at a time for each resource\n", len(rules), min(o.proof, len(rules)))
	rules = rules[:min(o.proof, len(rules))]
	if o.skiff, err = s.build(ctx, rules, dir); err != nil {
		return err
	}
	return proveRules(ctx, o, rules)
}

// rulesOf are all rules, or those that show on one resource.
func rulesOf(resource string) (*sources, []rule, error) {
	s, err := readSources("internal/kind")
	if err != nil {
		return nil, nil, err
	}
	return s, slices.DeleteFunc(s.rules(), func(r rule) bool { return resource != "" && !slices.Contains(concerned(r.file), resource) }), nil
}

// build makes an executable of skiff in a directory with a switch behind each rule.
func (s *sources) build(ctx context.Context, rules []rule, dir string) (string, error) {
	overlay, err := s.overlay(rules, dir)
	if err != nil {
		return "", err
	}
	skiff := filepath.Join(dir, "skiff")
	build := exec.CommandContext(ctx, "go", "build", "-tags", "grpcnotrace", "-overlay", overlay, "-o", skiff, ".")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return "", fmt.Errorf("build skiff with switches: %w", err)
	}
	return skiff, nil
}

// proofPlots are the plots that play with rules: the others ask for what no kind decides.
var proofPlots = []string{"create", "update", "live", "parts", "apply"}

// proof runs variants of skiff beside one upstream server.
type proof struct {
	options options
	theirs  *upstream.Server
	usual   map[string]map[string]bool // by resource: the shapes that skiff with all rules shows

	resources []*Resource // the first trial's: they are the same for all
}

// trial is one with a variant of skiff.
func (p *proof) trial(ctx context.Context, ours *upstream.Server) (*trial, error) {
	t, err := newPair(p.options, p.theirs, ours)
	if err != nil {
		return nil, err
	}
	if t.resources = p.resources; t.resources == nil {
		if err := t.furnish(ctx); err != nil {
			return nil, err
		}
		p.resources = t.resources
	}
	return t, t.prepare(ctx)
}

func proveRules(ctx context.Context, o options, rules []rule) error {
	theirs, err := o.upstream().Start(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = theirs.Stop() }()
	left := make([]int, len(rules))
	for n := range left {
		left[n] = n
	}
	for range proofSeeds {
		p := &proof{options: o, theirs: theirs}
		if left, err = p.seek(ctx, rules, left); err != nil {
			return err
		}
		if len(left) == 0 {
			break
		}
		fmt.Printf("%d of %d removed rules were not seen with seed %d\n", len(left), len(rules), o.seed)
		o.seed++
	}
	for _, n := range left {
		fmt.Printf("%3d MISSED %s\n", n, rules[n])
	}
	fmt.Printf("%d of %d removed rules were seen\n", len(rules)-len(left), len(rules))
	if len(left)*25 > len(rules) {
		return fmt.Errorf("the twin missed %d of %d", len(left), len(rules))
	}
	return nil
}

// seek takes out some of the rules and returns those that the twin missed.
func (p *proof) seek(ctx context.Context, rules []rule, numbers []int) (missed []int, err error) {
	var all []string
	for _, n := range numbers {
		all = append(all, concerned(rules[n].file)...)
	}
	if p.usual, err = p.shapes(ctx, all, nil); err != nil {
		return nil, err
	}
	for round := range rounds(rules, numbers) {
		seen, err := p.round(ctx, rules, round)
		if err != nil {
			return nil, err
		}
		for _, n := range round {
			if seen[n] == "" {
				missed = append(missed, n)
				continue
			}
			fmt.Printf("%3d seen   %s\n           %s\n", n, rules[n], shorten(seen[n], 200))
		}
	}
	return missed, nil
}

// rounds gives rules by their numbers, in each round those of which none shows where
// another does: they are taken out together.
func rounds(rules []rule, numbers []int) iter.Seq[[]int] {
	return func(yield func([]int) bool) {
		done := make([]bool, len(rules))
		for {
			var round []int
			taken := map[string]bool{}
			for _, n := range numbers {
				resources := reached(rules[n].file)
				all := slices.Contains(resources, everything)
				if done[n] || taken[everything] || all && len(round) > 0 || slices.ContainsFunc(resources, func(s string) bool { return taken[s] }) {
					continue
				}
				done[n] = true
				round = append(round, n)
				for _, s := range resources {
					taken[s] = true
				}
			}
			if len(round) == 0 || !yield(round) {
				return
			}
		}
	}
}

const everything = "*"

// reached are the resources that a rule of a file may show on: Pods are in others, and
// some rules are all kinds'.
func reached(file string) []string {
	resources := concerned(file)
	switch {
	case strings.HasPrefix(file, "meta") || file == "kind.go" || file == "time.go":
		return []string{everything}
	case slices.Contains(resources, "pods"):
		return []string{"pods", "deployments.apps", "replicasets.apps", "runtimeclasses.node.k8s.io", "nodes"}
	}
	return resources
}

// round runs skiff without the rules of a round, and returns for each the first
// difference that skiff with all rules does not show.
func (p *proof) round(ctx context.Context, rules []rule, round []int) (map[int]string, error) {
	var resources []string
	for _, n := range round {
		resources = append(resources, concerned(rules[n].file)...)
	}
	shapes, err := p.shapes(ctx, resources, round)
	if err != nil {
		return nil, err
	}
	seen := map[int]string{}
	for _, n := range round {
		for _, resource := range concerned(rules[n].file) {
			for shape := range shapes[resource] {
				if !p.usual[resource][shape] {
					seen[n] = resource + ": " + shape
				}
			}
		}
	}
	return seen, nil
}

// concerned are the resources on which a rule of a file shows: its own, or Pods, or a
// few of all kinds.
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
		"kind":                      {"configmaps", "namespaces"},
		"namespace":                 {"namespaces"},
		"node":                      {"nodes"},
		"priorityclass":             {"priorityclasses.scheduling.k8s.io"},
		"runtimeclass":              {"runtimeclasses.node.k8s.io"},
		"replicaset":                {"replicasets.apps"},
		"review":                    {"tokenreviews.authentication.k8s.io", "subjectaccessreviews.authorization.k8s.io", "selfsubjectaccessreviews.authorization.k8s.io", "localsubjectaccessreviews.authorization.k8s.io"},
		"secret":                    {"secrets"},
		"service":                   {"services"},
		"serviceaccount":            {"serviceaccounts"},
		"template":                  {"deployments.apps", "replicasets.apps"},
	}
	if resources := own[name]; resources != nil {
		return resources
	}
	return []string{"pods"}
}

// shapes runs skiff without some rules on some resources (none: all) and returns the
// shapes of the differences by resource. A resource ends with the first that is not
// usual, where it is known what is.
func (p *proof) shapes(ctx context.Context, resources []string, without []int) (_ map[string]map[string]bool, err error) {
	var numbers []string
	for _, n := range without {
		numbers = append(numbers, strconv.Itoa(n))
	}
	ours, err := upstream.Skiff{Executable: p.options.skiff, Environment: []string{removed + "=" + strings.Join(numbers, ",")}}.Start(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, ours.Stop()) }()
	t, err := p.trial(ctx, ours)
	if err != nil {
		return nil, err
	}
	t.only, t.plots = resources, proofPlots
	if p.usual != nil {
		t.report.noted = func(g *Group) {
			if !p.usual[g.Resource][g.Shape] {
				t.enough[g.Resource]()
			}
		}
	}
	if err := t.run(ctx); err != nil {
		return nil, err
	}
	if p.usual == nil { // what skiff does otherwise anyway is to be told
		if err := t.report.write(p.options.reports, p.options.seed); err != nil {
			return nil, err
		}
		t.report.print()
	}
	shapes := map[string]map[string]bool{}
	for _, g := range t.report.groups {
		if shapes[g.Resource] == nil {
			shapes[g.Resource] = map[string]bool{}
		}
		shapes[g.Resource][g.Shape] = true
	}
	return shapes, nil
}
