package main

import (
	"math/rand/v2"
	"slices"
	"strings"
)

// Plan is an order in which mutations are tried so that each comes before any comes
// again: first those that rules are about, of every field of every type once, then
// the same fields in other places, then what is odder. Rules are told all at once, so
// that many mutations go into one object.
type Plan []Chapter

// Chapter is what one scenario tries: objects made of one valid object, each by a few
// mutations at once.
type Chapter struct {
	Base  int
	Packs [][]Mutation
}

const (
	packed       = 32 // mutations in a pack
	chapterPacks = 6  // packs in a chapter
	lastTier     = 4
	objects      = 5 // valid objects in which the same is tried, at most
)

// at is the chapter whose turn it is; after the last comes the first.
func (p Plan) at(n int) Chapter {
	if len(p) == 0 {
		return Chapter{}
	}
	return p[n%len(p)]
}

// newPlan orders those mutations that keep the type of their field: all others show by
// themselves. Each goes with a valid object that has the field, where one has.
func newPlan(list []Mutation, bases []map[string]any, seed uint64) Plan {
	if len(bases) == 0 {
		return nil
	}
	random := rand.New(rand.NewPCG(seed, 0x71a9))
	tiers := make([]map[int][]Mutation, lastTier+1)
	times := map[string]int{}
	add := func(tier, base int, m Mutation) {
		if tiers[tier] == nil {
			tiers[tier] = map[int][]Mutation{}
		}
		tiers[tier][base] = append(tiers[tier][base], m)
	}
	for _, m := range shuffled(list, seed) {
		if !m.keepsType() {
			continue
		}
		tier := m.tier(times)
		having := basesFor(m, bases)
		if m.tosses() {
			for _, base := range having { // what goes with the switches is there or not
				add(tier, base, m)
			}
			continue
		}
		for i, n := range random.Perm(len(having))[:min(len(having), objects)] {
			if i == 0 {
				add(tier, having[n], m)
			} else if m.telling() { // what is wrong is seen beside other things elsewhere
				add(min(tier+1, lastTier), having[n], m)
			}
		}
	}
	var plan Plan
	for _, tier := range tiers {
		var chapters Plan
		for base := range bases {
			for packs := range slices.Chunk(pack(tier[base]), chapterPacks) {
				chapters = append(chapters, Chapter{base, packs})
			}
		}
		random.Shuffle(len(chapters), func(i, j int) { chapters[i], chapters[j] = chapters[j], chapters[i] })
		plan = append(plan, chapters...)
	}
	return plan
}

// firstRules are those that most fields have a rule about, if they have any.
var firstRules = []string{"missing", "empty", "zero", "negative", "upper case", "64 long", "254 long", "unknown", "max int32", "true", "false", "many", "duplicated", "bad key"}

// tier is when a mutation's turn comes, given how often the same was done to the same
// field of the same type.
func (m *Mutation) tier(times map[string]int) int {
	of := ""
	if m.Field.Parent != nil {
		of = m.Field.Parent.name
	}
	steps := m.Field.Path
	if of == "" {
		of = pathString(steps)
	}
	key := of + " " + strings.Join(steps[max(0, len(steps)-3):], " ") + " " + m.Rule
	tier := times[key]
	times[key]++
	switch {
	case slices.Contains(firstRules, m.Rule):
	case m.telling():
		tier++
	default:
		tier += 2
	}
	if strings.HasPrefix(pathString(steps), "spec.template.spec.") {
		tier++ // Pods have it too
	}
	return min(tier, lastTier)
}

// basesFor are those valid objects that have a field; all, where none has.
func basesFor(m Mutation, bases []map[string]any) []int {
	var having, all []int
	for i, b := range bases {
		all = append(all, i)
		if reaches(b, m.Field.Path) {
			having = append(having, i)
		}
	}
	if len(having) == 0 {
		return all
	}
	return having
}

// pack puts mutations together whose fields are not in each other.
func pack(list []Mutation) [][]Mutation {
	var packs [][]Mutation
	open := 0
	for _, m := range list {
		place := -1
		for i := max(open, len(packs)-chapterPacks); i < len(packs) && place < 0; i++ {
			apart := !slices.ContainsFunc(packs[i], func(o Mutation) bool { return o.place().within(m.place()) || m.place().within(o.place()) })
			if len(packs[i]) < packed && apart {
				place = i
			}
		}
		if place < 0 {
			packs, place = append(packs, nil), len(packs)
		}
		packs[place] = append(packs[place], m)
		for open < len(packs) && len(packs[open]) == packed {
			open++
		}
	}
	return packs
}

// tosses says whether a mutation is about the switches of an object.
func (m *Mutation) tosses() bool { return strings.HasPrefix(m.Rule, "switches ") }

// place is the field that a mutation changes: of an object whose switches are set, none
// of those that others change.
func (m *Mutation) place() Field {
	if m.tosses() {
		return Field{Path: append(slices.Clone(m.Field.Path), "switches")}
	}
	return m.Field
}

// plan makes the plans of a resource: of what is created, updated (""), and changed
// through its parts.
func (r *Resource) plan(seed uint64) {
	r.creating = newPlan(r.mutations, r.bases, seed)
	r.changing = map[string]Plan{}
	of := func(part string, whether func(Mutation) bool) {
		r.changing[part] = newPlan(slices.DeleteFunc(slices.Clone(r.mutations), func(m Mutation) bool { return !whether(m) }), r.bases, seed)
	}
	of("", func(m Mutation) bool { return m.Field.Path[0] != "status" })
	if fields := changeable[r.Name()]; fields != nil { // the others are tried too, for what is told beside that they may not change
		all := r.changing[""]
		of("", func(m Mutation) bool { return m.Field.inside(fields) })
		r.changing[""] = alternating(r.changing[""], all)
	}
	for _, part := range r.ownParts() {
		of(part, func(m Mutation) bool { return belongs(m.Field.Path, part) })
	}
}

// alternating is two chapters of one plan and one of another, and so on; the first
// begins again when it is through.
func alternating(first, second Plan) Plan {
	if len(first) == 0 {
		return second
	}
	var plan Plan
	for i, c := range second {
		plan = append(plan, first.at(2*i), first.at(2*i+1), c)
	}
	return plan
}

// ownParts are the parts through which the object itself is changed.
func (r *Resource) ownParts() []string {
	var parts []string
	for _, p := range r.Parts {
		if slices.Contains(p.Verbs, "update") && p.Kind == r.Kind {
			parts = append(parts, p.Name)
		}
	}
	return parts
}

// done is a mutation and where in the object it was done.
type done struct {
	Mutation
	pointer []string
}

// innocent are the mutations that an answer does not name: without the others, the
// object may be taken, and shows what becomes of it, or is refused for what was hidden.
// Where it names none of them, they are half of all. None: there is nothing to be
// learned.
func innocent(list []done, answer Answer) []done {
	if answer.Code < 400 || len(list) < 2 {
		return nil
	}
	var rest []done
	if answer.Code == 422 {
		named := blamed(decode(answer))
		rest = slices.DeleteFunc(slices.Clone(list), func(d done) bool {
			return slices.ContainsFunc(named, func(field []string) bool { return overlaps(field, d.pointer) })
		})
	}
	if len(rest) == len(list) || answer.Code != 422 {
		return list[:len(list)/2]
	}
	return rest
}

// blamed are the places that a failure's causes name.
func blamed(status any) [][]string {
	causes, _ := at(status, "details", "causes").([]any)
	var places [][]string
	for _, c := range causes {
		places = append(places, strings.FieldsFunc(text(c, "field"), func(r rune) bool { return strings.ContainsRune(".[]", r) }))
	}
	return places
}

// overlaps says whether one place is in the other.
func overlaps(a, b []string) bool {
	n := min(len(a), len(b))
	return slices.Equal(a[:n], b[:n])
}

func ruleOf(list []done) string {
	var rules []string
	for _, d := range list {
		rules = append(rules, d.String())
	}
	return strings.Join(rules, " and ")
}

// retries is how often what was refused is tried again with less.
const retries = 2

// createChapter posts the objects of a chapter.
func (sc *scenario) createChapter(c Chapter) {
	for i, pack := range c.Packs {
		short := "p" + itoa(i)
		for try := 0; try <= retries && len(pack) > 0; try++ {
			object := sc.baseNumber(c.Base, short+itoa(try))
			var list []done
			for _, m := range pack {
				if changed, pointer, ok := m.mutate(object, sc.sampler); ok {
					object = changed
					list = append(list, done{m, pointer})
				}
			}
			answer := sc.postMutated(object, short+itoa(try), ruleOf(list))
			pack = nil
			for _, d := range innocent(list, answer) {
				pack = append(pack, d.Mutation)
			}
		}
	}
}

// changeChapter changes the object a by the packs of a chapter, through a part of it
// or as a whole.
func (sc *scenario) changeChapter(c Chapter, part string) {
	for _, pack := range c.Packs {
		for try := 0; try <= retries && len(pack) > 0; try++ {
			if sc.objects["a"] == nil {
				return
			}
			list, answer := sc.changeAll(pack, part)
			pack = nil
			for _, d := range innocent(list, answer) {
				pack = append(pack, d.Mutation)
			}
		}
	}
}
