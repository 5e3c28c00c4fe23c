package format

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// What is missing from a bucket is looked for in the pages that nothing refers
// to. They also hold the past: so only what gives the bucket exactly the count
// and digest that it should have is taken.

// candidate is a page that nothing refers to, with what is below it.
type candidate struct {
	page   uint64
	leaves []leaf
	tally  Tally
	seen   map[uint64]bool
}

// span are the names between two that are known, without these.
type span struct {
	low, high string
	open      bool // there is no upper bound
}

func (s span) holds(first, last string) bool {
	return first > s.low && (s.open || last < s.high)
}

func (s span) String() string {
	switch {
	case s.low == "" && s.open:
		return "all its records"
	case s.low == "":
		return fmt.Sprintf("the records before %q", s.high)
	case s.open:
		return fmt.Sprintf("the records behind %q", s.low)
	}
	return fmt.Sprintf("the records between %q and %q", s.low, s.high)
}

// span returns the names that may be between leaves from and to.
func (t *tree) span(from, to int) span {
	s := span{open: to == len(t.leaves)}
	if from > 0 {
		s.low = t.leaves[from-1].last
	}
	if !s.open {
		s.high = t.leaves[to].first
	}
	return s
}

// resolve finds out what is missing from a tree that should hold so much, brings
// back what can be found, and notes the rest.
func (r *Reader) resolve(ctx context.Context, t *tree, want Tally) error {
	missing := want.Minus(t.have)
	if missing == 0 {
		for _, gap := range t.gaps {
			t.note("page %d %s; nothing is lost by that", gap.page, gap.reason)
		}
		t.gaps = nil
		return nil
	}
	known := sumLost(t.lost)
	suspects := t.suspects()
	if missing == known.Plus(sumLost(suspects)) || len(t.gaps) == 0 && len(t.lost) > 0 && int(missing.Count()) == len(t.lost) {
		t.lost = append(t.lost, suspects...)
		t.gaps = nil
		return nil
	}
	candidates, err := r.candidates(ctx, t)
	if err != nil {
		return err
	}
	if len(t.gaps) > 0 {
		for _, need := range []Tally{missing.Minus(known), missing} {
			if ok, err := r.fill(ctx, t, need, candidates); ok || err != nil {
				return err
			}
		}
	} else if r.substitute(t, missing.Minus(known), candidates) {
		return nil
	}
	t.giveUp(want)
	return nil
}

func sumLost(all []lost) (t Tally) {
	for _, l := range all {
		t = t.Plus(l.tally)
	}
	return t
}

// suspects are the records of the pages that were not accepted.
func (t *tree) suspects() (all []lost) {
	for _, gap := range t.gaps {
		all = append(all, gap.lost...)
	}
	return all
}

// giveUp notes what is lost.
func (t *tree) giveUp(want Tally) {
	missing := want.Minus(t.have)
	suspects := t.suspects()
	t.lost = append(t.lost, suspects...)
	switch {
	case len(t.gaps) == 0:
		t.note("it holds %d records or others than the %d it should; what is there is whole", t.have.Count(), want.Count())
	case int(missing.Count()) == len(t.lost):
	case len(t.gaps) == 1:
		gap := t.gaps[0]
		t.note("page %d %s; %v are lost, %d in number", gap.page, gap.reason, t.span(gap.at, gap.at), missing.Count()-uint64(len(t.lost)))
	default:
		for _, gap := range t.gaps {
			t.note("page %d %s; %v are lost if there were any", gap.page, gap.reason, t.span(gap.at, gap.at))
		}
		t.note("%d of its %d records are lost", missing.Count(), want.Count())
	}
	t.gaps = nil
}

// orphans calls fn for the pages that nothing refers to.
func (r *Reader) orphans(fn func(id uint64) error) error {
	slots := r.slots()
	for id := range r.pages {
		if r.inUse[id] || id < 2 && slots[id].valid {
			continue
		}
		if err := fn(id); err != nil {
			return err
		}
	}
	return nil
}

// candidates returns the pages that hold whole records of a bucket and nothing
// else, with what is below them.
func (r *Reader) candidates(ctx context.Context, t *tree) ([]candidate, error) {
	var all []candidate
	err := r.orphans(func(id uint64) error {
		trial := &tree{from: r.source, bucket: t.bucket, listed: t.listed, seen: map[uint64]bool{}}
		ok, err := trial.visit(ctx, id, nil, nil, 0)
		if ok && len(trial.gaps) == 0 && len(trial.lost) == 0 {
			all = append(all, candidate{page: id, leaves: trial.leaves, tally: trial.have, seen: trial.seen})
		}
		return err
	})
	return all, err
}

// fill looks for the records of which the tally is need in the gaps.
func (r *Reader) fill(ctx context.Context, t *tree, need Tally, candidates []candidate) (bool, error) {
	var spans []span
	for _, gap := range t.gaps {
		spans = append(spans, t.span(gap.at, gap.at))
	}
	fitting := slices.Clone(candidates)
	fitting = slices.DeleteFunc(fitting, func(c candidate) bool { return !c.within(spans) })
	if found := choose(need, fitting); found != nil {
		for _, gap := range t.gaps {
			t.note("page %d %s; what belongs there was found in %s, nothing is lost", gap.page, gap.reason, pageList(found))
		}
		r.take(t, found)
		return true, nil
	}
	records, err := r.strays(ctx, t, spans)
	if err != nil {
		return false, err
	}
	if records, ok := trim(need, records); ok {
		for _, gap := range t.gaps {
			t.note("page %d %s; its records were found in pages that nothing refers to, nothing is lost", gap.page, gap.reason)
		}
		t.loose, t.have, t.gaps = append(t.loose, records...), t.have.Plus(need), nil
		return true, nil
	}
	return false, nil
}

// substitute looks for a page that the tree should refer to instead of one of
// the past.
func (r *Reader) substitute(t *tree, missing Tally, candidates []candidate) bool {
	byTally := map[Tally][]candidate{}
	for _, c := range candidates {
		byTally[c.tally] = append(byTally[c.tally], c)
	}
	for _, u := range t.units {
		for _, c := range byTally[missing.Plus(u.tally)] {
			if !c.within([]span{t.span(u.from, u.to)}) {
				continue
			}
			t.note("page %d holds the past; what belongs there was found in page %d, nothing is lost", u.page, c.page)
			t.leaves = slices.Delete(t.leaves, u.from, u.to)
			t.have = t.have.Minus(u.tally)
			r.take(t, []candidate{c})
			return true
		}
	}
	return false
}

// take makes candidates part of the tree.
func (r *Reader) take(t *tree, found []candidate) {
	for _, c := range found {
		t.leaves = append(t.leaves, c.leaves...)
		t.have = t.have.Plus(c.tally)
		for id := range c.seen {
			r.inUse[id] = true
		}
	}
	slices.SortFunc(t.leaves, func(a, b leaf) int { return strings.Compare(a.first, b.first) })
	t.gaps = nil
}

// within reports whether all of a candidate lies in the spans.
func (c candidate) within(spans []span) bool {
	for _, leaf := range c.leaves {
		if !slices.ContainsFunc(spans, func(s span) bool { return s.holds(leaf.first, leaf.last) }) {
			return false
		}
	}
	return true
}

func pageList(found []candidate) string {
	if len(found) == 1 {
		return fmt.Sprintf("page %d", found[0].page)
	}
	return fmt.Sprintf("pages %d and %d", found[0].page, found[1].page)
}

// choose returns one candidate or two which have the tally.
func choose(need Tally, all []candidate) []candidate {
	before := map[Tally]int{}
	for i, c := range all {
		if c.tally == need {
			return []candidate{c}
		}
		if j, ok := before[need.Minus(c.tally)]; ok && c.apart(all[j]) {
			return []candidate{all[j], c}
		}
		before[c.tally] = i
	}
	return nil
}

// apart reports whether two candidates share no names.
func (c candidate) apart(o candidate) bool {
	a, b := c.leaves, o.leaves
	return a[len(a)-1].last < b[0].first || b[len(b)-1].last < a[0].first
}

// strays returns the newest of each record in pages that nothing refers to.
func (r *Reader) strays(ctx context.Context, t *tree, spans []span) ([]loose, error) {
	byName := map[string]loose{}
	trial := &tree{from: r.source, bucket: t.bucket, listed: t.listed}
	err := r.orphans(func(id uint64) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if l, err := r.page(id); err != nil || l.branch {
			return nil
		}
		return trial.records(leaf{page: id}, func(f found) error {
			name := string(f.name)
			inside := slices.ContainsFunc(spans, func(s span) bool { return s.holds(name, name) })
			if old, ok := byName[name]; inside && (!ok || f.Revision > old.Revision) {
				byName[name] = loose{name: name, page: id, Header: f.Header}
			}
			return nil
		})
	})
	all := make([]loose, 0, len(byName))
	for _, l := range byName {
		all = append(all, l)
	}
	slices.SortFunc(all, func(a, b loose) int { return strings.Compare(a.name, b.name) })
	return all, err
}

// trim leaves out up to two records, which were deleted, to come to the tally.
func trim(need Tally, all []loose) ([]loose, bool) {
	var have Tally
	for _, l := range all {
		have = have.Add(l.Header)
	}
	extra := have.Minus(need)
	switch extra.Count() {
	case 0:
		return all, extra == 0 && len(all) > 0
	case 1:
		for i, l := range all {
			if Tally(0).Add(l.Header) == extra {
				return slices.Delete(all, i, i+1), true
			}
		}
	case 2:
		before := map[Tally]int{}
		for i, l := range all {
			one := Tally(0).Add(l.Header)
			if j, ok := before[extra.Minus(one)]; ok {
				return slices.Delete(slices.Delete(all, i, i+1), j, j+1), true
			}
			before[one] = i
		}
	}
	return nil, false
}
