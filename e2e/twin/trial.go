package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/skiff-sh/skiff/e2e/upstream"
)

// trial is one run of the whole.
type trial struct {
	options   options
	pair      pair
	resources []*Resource
	report    *Report
	only      []string                      // the resources to play; none: all
	plots     []string                      // the plots to play; none: all
	enough    map[string]context.CancelFunc // ends a resource
}

func newTrial(ctx context.Context, o options, theirs, ours *upstream.Server) (*trial, error) {
	t, err := newPair(o, theirs, ours)
	if err != nil {
		return nil, err
	}
	if err := t.furnish(ctx); err != nil {
		return nil, err
	}
	return t, t.prepare(ctx)
}

func newPair(o options, theirs, ours *upstream.Server) (*trial, error) {
	exceptions, err := readExceptions(exceptionsFile)
	if err != nil {
		return nil, err
	}
	t := &trial{options: o, report: newReport(exceptions), enough: map[string]context.CancelFunc{}}
	if t.pair.upstream, err = newSide("upstream", theirs.Config); err != nil {
		return nil, err
	}
	t.pair.skiff, err = newSide("skiff", ours.Config)
	return t, err
}

// furnish finds out what there is to play with.
func (t *trial) furnish(ctx context.Context) error {
	all, err := discover(ctx, t.pair.skiff)
	if err != nil {
		return err
	}
	schemas, err := readSchemas(ctx, t.pair.upstream, versions(all))
	if err != nil {
		return err
	}
	o := t.options
	if err := furnish(all, schemas, o.seed); err != nil {
		return err
	}
	for _, r := range all {
		if o.kind != "" && o.kind != r.Name() && !strings.EqualFold(o.kind, r.Kind.Kind) || r.Resource == "selfsubjectrulesreviews" {
			continue
		}
		r.plan(o.seed)
		t.resources = append(t.resources, r)
	}
	if len(t.resources) == 0 {
		return fmt.Errorf("skiff serves no %q: name a resource as pods or deployments.apps", o.kind)
	}
	return nil
}

// versions are the group-versions whose schemas are needed: those that are served,
// and those of what is posted to their subresources.
func versions(resources []*Resource) []schema.GroupVersion {
	list := []schema.GroupVersion{{Group: "policy", Version: "v1"}, {Group: "autoscaling", Version: "v1"}}
	for _, r := range resources {
		if !slices.Contains(list, r.GroupVersion()) {
			list = append(list, r.GroupVersion())
		}
	}
	return list
}

// shards is how many play a resource's scenarios side by side. Only what no other
// can see or take away may have several.
func shards(r *Resource) int {
	switch {
	case !r.Namespaced || r.Resource == "services":
		return 1
	case r.Resource == "pods":
		return 4
	}
	return 2
}

// share is a resource's part of all requests: there is more to say of some.
func share(r *Resource) int {
	switch r.Name() {
	case "pods":
		return 30
	case "deployments.apps":
		return 12
	case "services":
		return 10
	case "replicasets.apps", "nodes":
		return 6
	}
	if !r.Stored() {
		return 1
	}
	return 4
}

func namespace(r *Resource, shard int) string {
	return strings.ReplaceAll("twin-"+r.Name(), ".", "-") + "-" + itoa(shard)
}

// classes are what Pods name.
var classes = []string{
	`{"metadata":{"name":"twin-plain"},"handler":"plain"}`,
	`{"metadata":{"name":"twin-heavy"},"handler":"heavy","overhead":{"podFixed":{"cpu":"10m","memory":"16Mi"}},
		"scheduling":{"nodeSelector":{"heavy":"yes"},"tolerations":[{"key":"heavy","operator":"Exists"},{"key":"heavier","operator":"Exists"}]}}`,
}

// prepare makes the namespaces in which scenarios play, each with what controllers
// would have made, and what is there for all of them; and sees that what is to be valid is.
func (t *trial) prepare(ctx context.Context) error {
	for _, s := range []*side{t.pair.upstream, t.pair.skiff} {
		for _, class := range classes {
			if err := s.ensure(ctx, "/apis/node.k8s.io/v1/runtimeclasses", class); err != nil {
				return err
			}
		}
		for _, r := range t.resources {
			for shard := range shards(r) {
				name := namespace(r, shard)
				for _, post := range [][2]string{
					{"/api/v1/namespaces", `{"metadata":{"name":"` + name + `"}}`},
					{"/api/v1/namespaces/" + name + "/serviceaccounts", `{"metadata":{"name":"default"}}`},
				} {
					if err := s.ensure(ctx, post[0], post[1]); err != nil {
						return err
					}
				}
			}
		}
	}
	return t.prove(ctx)
}

// ensure makes an object where it is not there yet.
func (s *side) ensure(ctx context.Context, path, body string) error {
	answer := s.do(ctx, Request{Method: "POST", Path: path, Headers: jsonHeaders(), Body: []byte(body)}, nil)
	if answer.Code != 201 && answer.Code != 409 {
		return fmt.Errorf("%s: make %s: %d %s %w", s.name, body, answer.Code, answer.Body, answer.Err)
	}
	return nil
}

// prove sees that upstream takes every valid object: of one that is not valid,
// nothing that is odd about it can be told.
func (t *trial) prove(ctx context.Context) error {
	var errs []error
	for _, r := range t.resources {
		sc := newScenario(ctx, t.pair, r, namespace(r, 0), 0, 0)
		for i := range r.bases {
			answer := t.pair.upstream.do(ctx, Request{Method: "POST", Path: sc.collection(), Query: "dryRun=All", Headers: jsonHeaders(), Body: render(sc.baseNumber(i, "valid"))}, nil)
			if answer.Code != 201 {
				errs = append(errs, fmt.Errorf("bases/%s.yaml: upstream refuses document %d: %s", r.Name(), i+1, answer.Body))
			}
		}
	}
	return errors.Join(errs...)
}

// run plays all resources side by side.
func (t *trial) run(ctx context.Context) error {
	total := 0
	for _, r := range t.resources {
		total += share(r)
	}
	group, all := errgroup.WithContext(ctx)
	own := map[*Resource]context.Context{}
	for _, r := range t.resources {
		if len(t.only) == 0 || slices.Contains(t.only, r.Name()) {
			own[r], t.enough[r.Name()] = context.WithCancel(all)
		}
	}
	for r, ctx := range own {
		if t.options.single >= 0 {
			group.Go(func() error { return t.tell(ctx, r) })
			continue
		}
		n := shards(r)
		for shard := range n {
			group.Go(func() error { return t.play(all, ctx, r, shard, t.options.requests*share(r)/total/n) })
		}
	}
	defer func() {
		for _, enough := range t.enough {
			enough()
		}
	}()
	return group.Wait()
}

// play plays every scenario of a shard until its requests are spent, or the
// resource's own context ends.
func (t *trial) play(all, ctx context.Context, r *Resource, shard, budget int) error {
	if r.Stored() {
		newScenario(all, t.pair, r, namespace(r, shard), t.options.seed, shard).clear() // what an earlier round left
	}
	for index := shard; budget > 0 && ctx.Err() == nil; index += shards(r) {
		if len(t.plots) > 0 && r.Stored() && !slices.Contains(t.plots, plotOf(index).name) {
			budget -= batch // what it would have asked, about
			continue
		}
		sc := newScenario(ctx, t.pair, r, namespace(r, shard), t.options.seed, index)
		sc.play()
		budget -= max(1, len(sc.steps))
		for range confirmations {
			if sc.differs() && ctx.Err() == nil {
				again := newScenario(ctx, t.pair, r, namespace(r, shard), t.options.seed, index)
				again.play()
				sc.confirm(again)
			}
		}
		if ctx.Err() == nil {
			t.report.add(r, sc.steps)
		}
	}
	return all.Err()
}

// confirmations is how often a difference must be seen again to count: upstream says
// some things in the order of a map.
const confirmations = 2

func (sc *scenario) differs() bool {
	return slices.ContainsFunc(sc.steps, func(s step) bool { return len(s.Differences) > 0 })
}

// confirm keeps the differences that a second run shows as well.
func (sc *scenario) confirm(again *scenario) {
	for i := range sc.steps {
		sc.steps[i].Differences = slices.DeleteFunc(sc.steps[i].Differences, func(d Difference) bool {
			return i >= len(again.steps) || !slices.ContainsFunc(again.steps[i].Differences, func(e Difference) bool { return e.Shape == d.Shape })
		})
	}
}

// tell plays one scenario and prints all of it.
func (t *trial) tell(ctx context.Context, r *Resource) error {
	index := t.options.single
	sc := newScenario(ctx, t.pair, r, namespace(r, index%shards(r)), t.options.seed, index)
	sc.play()
	for _, s := range sc.steps {
		fmt.Printf("--- %s %s: %s\n%s\n", s.At, s.Request.Verb, s.Request.Rule, s.Request.curl())
		if len(s.Differences) == 0 {
			fmt.Printf("both: %s\n", shorten(tell(s.Upstream), 600))
			continue
		}
		fmt.Printf("upstream: %s %v\nskiff:    %s %v\n", tell(s.Upstream), s.Upstream.Header["Warning"], tell(s.Skiff), s.Skiff.Header["Warning"])
		for _, d := range s.Differences {
			fmt.Printf("DIFFERENT %s\n  upstream: %s\n  skiff:    %s\n", d.Shape, d.Upstream, d.Skiff)
		}
	}
	t.report.add(r, sc.steps)
	return nil
}

// judge prints what was found; differences that nothing explains are an error.
func (t *trial) judge() error {
	if t.options.single < 0 && t.options.reports != "" {
		if err := t.report.write(t.options.reports, t.options.seed); err != nil {
			return err
		}
	}
	t.report.print()
	groups, differences := t.report.unexplained()
	fmt.Printf("\n%d requests, seed %d: %d differences in %d groups are unexplained\n", t.report.requests, t.options.seed, differences, groups)
	if groups > 0 {
		return errors.New("the answers differ; see " + t.options.reports)
	}
	return nil
}
