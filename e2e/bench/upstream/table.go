package main

import (
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"
)

// aim is what skiff must reach in a figure: a value, or a ratio to upstream's.
// Where more is better, at least that, else at most.
type aim struct {
	value, ratio float64
	more         bool
}

// aims are those of the project's targets. A figure that is more than a quarter
// short is work to do.
var aims = map[string]aim{
	"get_1_p50_ms":                {value: 0.35},
	"get_24_ops":                  {value: 7000, ratio: 2.5, more: true},
	"create_1_p50_ms":             {value: 0.8},
	"update_1_p50_ms":             {value: 0.8},
	"update_1_ops":                {value: 1200, more: true},
	"update_8_p50_ms":             {value: 2.5},
	"update_8_ops":                {value: 3000, more: true},
	"update_24_p50_ms":            {value: 5},
	"update_24_ops":               {value: 4500, more: true},
	"patch_8_p50_ms":              {value: 3},
	"patch_8_ops":                 {value: 2500, more: true},
	"delete_8_p50_ms":             {value: 2.5},
	"delete_8_ops":                {value: 3000, more: true},
	"pod_create_8_p50_ms":         {value: 2.5},
	"pod_create_8_ops":            {ratio: 3, more: true},
	"pod_create_24_p50_ms":        {value: 6},
	"pod_create_24_ops":           {ratio: 3, more: true},
	"list_1000_p50_ms":            {value: 7},
	"watch_p50_ms":                {value: 1.2},
	"watchers_1000_p50_ms":        {value: 20},
	"pod_deletecollection_p50_ms": {value: 3000},
	"idle_rss_bytes":              {value: 60e6},
	"idle_cpu_percent":            {value: 0.5},
}

// short tells by which part a figure falls short of its aim; not positive when it
// does not.
func (a aim) short(value, ratio float64) float64 {
	worst := math.Inf(-1)
	for _, p := range []struct{ have, want float64 }{{value, a.value}, {ratio, a.ratio}} {
		if p.want == 0 || math.IsNaN(p.have) {
			continue
		}
		part := p.have/p.want - 1
		if a.more {
			part = p.want/p.have - 1
		}
		worst = max(worst, part)
	}
	return worst
}

func (a aim) String() string {
	var parts []string
	if a.value != 0 {
		parts = append(parts, number(a.value))
	}
	if a.ratio != 0 {
		parts = append(parts, number(a.ratio)+"×")
	}
	return strings.Join(parts, ", ")
}

// print writes all figures, with the aims beside them.
func (r *results) print(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\tupstream\tskiff\tratio\taim\t")
	for _, name := range r.names {
		ours, measured := r.median(skiffName, name)
		theirs, both := r.median(upstreamName, name)
		ratio, _ := r.ratio(name)
		if !both {
			theirs, ratio = math.NaN(), math.NaN()
		}
		verdict := ""
		a, aimed := aims[name]
		if part := a.short(ours, ratio); aimed && measured && part > 0 {
			verdict = fmt.Sprintf("%.0f %% short", 100*part)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", name, number(theirs), number(ours), number(ratio), a, verdict)
	}
	_ = t.Flush() // to the terminal
}

// number writes three digits, and all of those that count more.
func number(v float64) string {
	switch {
	case math.IsNaN(v):
		return "–"
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
