package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync"
)

// Report gathers differences and what was touched.
type Report struct {
	mu       sync.Mutex
	groups   map[string]*Group // by kind, shape and reason
	requests int
	covered  map[string]*coverage // by resource
	noted    func(*Group)         // told of every difference, if it is set

	exceptions []Exception
}

// Group is all differences of one resource with one shape.
type Group struct {
	Resource string
	Shape    string
	Count    int
	Rules    map[string]int
	Examples []Example
	Reason   string // of the exception that explains it
}

// Example is how to repeat one.
type Example struct {
	At              string
	Request         Request
	Upstream, Skiff Answer
	Difference      Difference
}

// coverage is what of a resource was touched.
type coverage struct {
	requests int
	verbs    map[string]int
	fields   map[string]bool
	all      int // fields there are
}

func newReport(exceptions []Exception) *Report {
	return &Report{exceptions: exceptions, groups: map[string]*Group{}, covered: map[string]*coverage{}}
}

// examples is how many a group keeps.
const examples = 3

// add takes a scenario's steps.
func (rep *Report) add(r *Resource, steps []step) {
	rep.mu.Lock()
	defer rep.mu.Unlock()
	c := rep.covered[r.Name()]
	if c == nil {
		c = &coverage{verbs: map[string]int{}, fields: map[string]bool{}, all: len(r.fields)}
		rep.covered[r.Name()] = c
	}
	for _, s := range steps {
		rep.requests++
		c.requests++
		c.verbs[s.Request.Verb]++
		c.fields[strings.SplitN(s.Request.Rule, " ", 2)[0]] = true
		for _, d := range s.Differences {
			rep.note(r.Name(), s, d)
		}
	}
}

func (rep *Report) note(resource string, s step, d Difference) {
	why := reason(rep.exceptions, resource, s.Request, d.Shape)
	key := strings.Join([]string{resource, d.Shape, why}, "\x00")
	g := rep.groups[key]
	if g == nil {
		g = &Group{Resource: resource, Shape: d.Shape, Reason: why, Rules: map[string]int{}}
		rep.groups[key] = g
	}
	g.Count++
	if rep.noted != nil {
		rep.noted(g)
	}
	rule := s.Request.Verb + ": " + s.Request.Rule
	g.Rules[rule]++
	if len(g.Examples) < examples && g.Rules[rule] == 1 {
		g.Examples = append(g.Examples, Example{s.At, s.Request, s.Upstream, s.Skiff, d})
	}
}

// sorted returns a resource's groups, the most frequent first.
func (rep *Report) sorted(resource string) []*Group {
	var list []*Group
	for _, g := range rep.groups {
		if resource == "" || g.Resource == resource {
			list = append(list, g)
		}
	}
	sort.Slice(list, func(i, j int) bool {
		if list[i].Count != list[j].Count {
			return list[i].Count > list[j].Count
		}
		return list[i].Resource+list[i].Shape < list[j].Resource+list[j].Shape
	})
	return list
}

// unexplained counts the groups that no exception explains, and their differences.
func (rep *Report) unexplained() (groups, differences int) {
	for _, g := range rep.groups {
		if g.Reason == "" {
			groups++
			differences += g.Count
		}
	}
	return groups, differences
}

// write writes a file per resource.
func (rep *Report) write(dir string, seed uint64) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, resource := range sortedKeys(rep.covered) {
		var b strings.Builder
		c := rep.covered[resource]
		groups := rep.sorted(resource)
		fmt.Fprintf(&b, "# %s: %d groups of differences in %d requests\n\nSeed %d. Repeat an example with `make twin SEED=%d KIND=%s CASE=N`, N the number before the slash.\n",
			resource, len(groups), c.requests, seed, seed, resource)
		for _, g := range groups {
			g.write(&b)
		}
		if err := os.WriteFile(filepath.Join(dir, resource+".md"), []byte(b.String()), 0o644); err != nil {
			return err
		}
	}
	return rep.writeShapes(filepath.Join(dir, "by-shape.md"))
}

// writeShapes writes the groups once more, those of all resources with one shape
// together: what is wrong with all kinds is wrong in one place.
func (rep *Report) writeShapes(file string) error {
	shapes := map[string][]*Group{}
	for _, g := range rep.sorted("") {
		if g.Reason == "" {
			shapes[template(g.Shape)] = append(shapes[template(g.Shape)], g)
		}
	}
	order := sortedKeys(shapes)
	sort.SliceStable(order, func(i, j int) bool { return len(shapes[order[i]]) > len(shapes[order[j]]) })
	var b strings.Builder
	fmt.Fprintf(&b, "# %d shapes of differences, those of most resources first\n", len(order))
	for _, shape := range order {
		groups := shapes[shape]
		var names []string
		for _, g := range groups {
			names = append(names, fmt.Sprintf("%s %d", g.Resource, g.Count))
		}
		fmt.Fprintf(&b, "\n## %s\n\n%s\n", shape, strings.Join(names, ", "))
		for _, e := range groups[0].Examples[:1] {
			e.write(&b, groups[0].Resource)
		}
	}
	return os.WriteFile(file, []byte(b.String()), 0o644)
}

func (e Example) write(b *strings.Builder, resource string) {
	fmt.Fprintf(b, "\n%s %s:\n```\n%s\n```\nupstream: %s\nskiff:    %s\n", resource, e.At, e.Request.curl(), shorten(e.Difference.Upstream, 1200), shorten(e.Difference.Skiff, 1200))
}

func (g *Group) write(b *strings.Builder) {
	fmt.Fprintf(b, "\n## %d × %s\n", g.Count, g.Shape)
	if g.Reason != "" {
		fmt.Fprintf(b, "\nOn purpose: %s\n", g.Reason)
		return
	}
	rules := sortedKeys(g.Rules)
	sort.SliceStable(rules, func(i, j int) bool { return g.Rules[rules[i]] > g.Rules[rules[j]] })
	b.WriteString("\n")
	for i, r := range rules {
		if i == 8 {
			fmt.Fprintf(b, "- … and %d more\n", len(rules)-i)
			break
		}
		fmt.Fprintf(b, "- %d × %s\n", g.Rules[r], shorten(r, 160))
	}
	for _, e := range g.Examples {
		e.write(b, g.Resource)
	}
}

// print tells the result on standard output.
func (rep *Report) print() {
	for _, g := range rep.sorted("") {
		if g.Reason == "" && len(g.Examples) > 0 {
			fmt.Printf("%5d  %s: %s  (%s)\n", g.Count, g.Resource, shorten(g.Shape, 220), g.Examples[0].At)
		}
	}
	rep.printCoverage()
}

func (rep *Report) printCoverage() {
	fmt.Println("\ncoverage:")
	for _, name := range sortedKeys(rep.covered) {
		c := rep.covered[name]
		touched := 0
		for f := range c.fields {
			if isField(f) {
				touched++
			}
		}
		var verbs []string
		for _, v := range sortedKeys(c.verbs) {
			verbs = append(verbs, fmt.Sprintf("%s %d", v, c.verbs[v]))
		}
		fmt.Printf("  %-50s %6d requests, %4d fields of %4d; %s\n", name, c.requests, min(touched, max(c.all, touched)), c.all, strings.Join(verbs, ", "))
	}
}

// isField tells the rules that name a field from those that do not.
func isField(rule string) bool {
	first, _, _ := strings.Cut(rule, ".")
	first, _, _ = strings.Cut(first, "[")
	return slices.Contains([]string{"apiVersion", "kind", "metadata", "spec", "status", "data", "binaryData", "immutable", "stringData", "type", "subsets", "endpoints", "ports", "addressType", "secrets", "imagePullSecrets",
		"automountServiceAccountToken", "value", "globalDefault", "description", "preemptionPolicy", "involvedObject", "regarding", "related", "reason", "message", "note", "source", "deprecatedSource", "series", "eventTime", "action", "count",
		"firstTimestamp", "lastTimestamp", "deprecatedCount", "deprecatedFirstTimestamp", "deprecatedLastTimestamp", "reportingComponent", "reportingInstance", "reportingController"}, first)
}
