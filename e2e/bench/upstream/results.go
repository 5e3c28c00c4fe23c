package main

import (
	"fmt"

	"github.com/skiff-sh/skiff/e2e/bench/load"
	"github.com/skiff-sh/skiff/e2e/figures"
)

// results are the figures of both sides by round.
type results struct {
	sheet *figures.Sheet
	names []string                        // in the order of their coming
	turns map[string]map[string][]float64 // by name and side
}

func newResults(path string) *results {
	return &results{sheet: figures.NewSheet(path), turns: map[string]map[string][]float64{}}
}

// add notes what one round of a side came to.
func (r *results) add(side, name string, value float64) {
	if r.turns[name] == nil {
		r.names = append(r.names, name)
		r.turns[name] = map[string][]float64{}
	}
	r.turns[name][side] = append(r.turns[name][side], value)
}

// addOutcome notes what operations took: of each half and all but a hundredth, how
// many a second, and the server's time on the processors.
func (r *results) addOutcome(s *side, name string, o load.Outcome, before, after figures.Usage) {
	r.add(s.name, name+"_p50_ms", figures.Milliseconds(figures.Percentile(o.Took, 0.5)))
	r.add(s.name, name+"_p99_ms", figures.Milliseconds(figures.Percentile(o.Took, 0.99)))
	r.add(s.name, name+"_ops", o.PerSecond())
	r.add(s.name, name+"_cpu_us", float64((after.CPU-before.CPU).Microseconds())/float64(max(1, len(o.Took))))
}

// addUsage notes what memory a side has.
func (r *results) addUsage(s *side, when string, u figures.Usage) {
	r.add(s.name, when+"_rss_bytes", u.RSS)
	r.add(s.name, when+"_pss_bytes", u.PSS)
	r.add(s.name, when+"_anon_bytes", u.Anon)
}

// median returns a side's figure; ok is false when it was not measured.
func (r *results) median(side, name string) (value float64, ok bool) {
	values := r.turns[name][side]
	return figures.Median(values), len(values) > 0
}

// ratio returns skiff's figure by upstream's: the median of what the rounds say.
func (r *results) ratio(name string) (value float64, ok bool) {
	ours, theirs := r.turns[name][skiffName], r.turns[name][upstreamName]
	var ratios []float64
	for i := range min(len(ours), len(theirs)) {
		if theirs[i] != 0 {
			ratios = append(ratios, ours[i]/theirs[i])
		}
	}
	return figures.Median(ratios), len(ratios) > 0
}

// write writes all figures to the file.
func (r *results) write() error {
	for _, name := range r.names {
		for _, side := range []string{skiffName, upstreamName} {
			if value, ok := r.median(side, name); ok {
				r.sheet.Set(side+"_"+name, value)
			}
		}
		if value, ok := r.ratio(name); ok {
			r.sheet.Set(name+"_ratio", value)
		}
	}
	if err := r.sheet.Write(); err != nil {
		return fmt.Errorf("write figures: %w", err)
	}
	return nil
}
