package main

import (
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
)

// readReport reads what came of the specs that a JUnit report says have run.
func readReport(path string) (map[string]bool, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var report struct {
		Suites []struct {
			Cases []struct {
				Name   string `xml:"name,attr"`
				Status string `xml:"status,attr"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(data, &report); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	passed := map[string]bool{}
	for _, suite := range report.Suites {
		for _, c := range suite.Cases {
			if name, is := strings.CutPrefix(c.Name, "[It] "); is && c.Status != "skipped" && c.Status != "pending" {
				passed[name] = c.Status == "passed"
			}
		}
	}
	return passed, nil
}

// Verdict is how a run compares with the list.
type Verdict struct {
	groups map[string]*score
	failed []string            // that the list says pass
	absent []string            // that did not run, though the list says they pass
	better []string            // that passed, though the list says they wait
	waits  map[string][]string // those that did not pass and need not, by what they wait for
}

// score is that of a special interest group.
type score struct{ passed, failed, absent int }

// judge compares what passed, by name, with the list.
func judge(list List, passed map[string]bool) Verdict {
	v := Verdict{groups: map[string]*score{}, waits: map[string][]string{}}
	for name, word := range list.specs {
		s := v.groups[group(name)]
		if s == nil {
			s = &score{}
			v.groups[group(name)] = s
		}
		ok, ran := passed[name]
		switch {
		case !ran:
			s.absent++
		case ok:
			s.passed++
		default:
			s.failed++
		}
		v.compare(name, word, ran, ok)
	}
	lists := append(slices.Collect(maps.Values(v.waits)), v.failed, v.absent, v.better)
	for _, names := range lists {
		slices.Sort(names)
	}
	return v
}

func (v *Verdict) compare(name, word string, ran, ok bool) {
	switch {
	case word != Passes && ok:
		v.better = append(v.better, name)
	case word != Passes:
		v.waits[word] = append(v.waits[word], name)
	case !ran:
		v.absent = append(v.absent, name)
	case !ok:
		v.failed = append(v.failed, name)
	}
}

// err is nil if all that the list says pass have passed.
func (v Verdict) err() error {
	if n := len(v.failed) + len(v.absent); n > 0 {
		return fmt.Errorf("%d specs did not pass that %s says pass: see what is printed above", n, listFile)
	}
	return nil
}

func (v Verdict) print(out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "SIG\tpassed\tfailed\tnot run\t")
	total := score{}
	for _, sig := range slices.Sorted(maps.Keys(v.groups)) {
		s := v.groups[sig]
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t\n", sig, s.passed, s.failed, s.absent)
		total.passed, total.failed, total.absent = total.passed+s.passed, total.failed+s.failed, total.absent+s.absent
	}
	fmt.Fprintf(w, "all\t%d\t%d\t%d\t\n", total.passed, total.failed, total.absent)
	w.Flush()
	for _, word := range slices.Sorted(maps.Keys(v.waits)) {
		names := v.waits[word]
		fmt.Fprintf(out, "%d wait for %s:\n  %s\n", len(names), word, strings.Join(names, "\n  "))
	}
	for _, list := range []struct {
		title string
		names []string
	}{
		{"Waits, but passed; move to passes:", v.better},
		{"Did not run, but should:", v.absent},
		{"Failed:", v.failed},
	} {
		if len(list.names) > 0 {
			fmt.Fprintf(out, "%s\n  %s\n", list.title, strings.Join(list.names, "\n  "))
		}
	}
}
