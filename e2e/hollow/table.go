package main

import (
	"fmt"
	"slices"
	"strings"
)

// table is what is printed at the end: a line for each figure, a column for each
// number of nodes.
type table struct {
	nodes []int
	rows  []row
}

type row struct {
	name  string
	cells map[int]string
}

func (t *table) set(nodes int, name, unit string, value float64) {
	if !slices.Contains(t.nodes, nodes) {
		t.nodes = append(t.nodes, nodes)
	}
	i := slices.IndexFunc(t.rows, func(r row) bool { return r.name == name })
	if i < 0 {
		i = len(t.rows)
		t.rows = append(t.rows, row{name, map[int]string{}})
	}
	t.rows[i].cells[nodes] = show(value, unit)
}

func (t *table) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-36s", "nodes")
	for _, n := range t.nodes {
		fmt.Fprintf(&b, "%14d", n)
	}
	b.WriteString("\n")
	for _, r := range t.rows {
		fmt.Fprintf(&b, "%-36s", r.name)
		for _, n := range t.nodes {
			fmt.Fprintf(&b, "%14s", r.cells[n])
		}
		b.WriteString("\n")
	}
	return b.String()
}

// show writes a figure with its unit, bytes in the one that is easiest to read.
func show(value float64, unit string) string {
	if unit != "B" {
		return strings.TrimSpace(fmt.Sprintf("%.2f %s", value, unit))
	}
	for _, u := range []string{"B", "KB", "MB"} {
		if value < 1000 {
			return fmt.Sprintf("%.1f %s", value, u)
		}
		value /= 1000
	}
	return fmt.Sprintf("%.1f GB", value)
}
