package load

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/skiff-sh/skiff/internal/store"
)

// Found judges what the store had after a cut: the revision at which it opened,
// and all its records. It returns all that is wrong, and goes on from what is
// there.
func (m *Model) Found(opened store.Revision, records map[store.Key]Held) (wrong []string) {
	if m.closed && opened != m.last {
		wrong = append(wrong, fmt.Sprintf("the store had been closed at revision %d, it opened at %d", m.last, opened))
	}
	if opened < m.last {
		wrong = append(wrong, fmt.Sprintf("the store opened at revision %d, %d had been handed out", opened, m.last))
	}
	f := finding{model: m, records: records, fresh: map[store.Key]bool{}}
	for _, w := range m.writers {
		ops, lazy := w.Next() // under way at the cut, or next
		if lazy {
			m.lazy[ops[0].Key] = true // it may be on disk, and is stamped from now on
		}
		f.judgeCommit(w.id, ops)
	}
	for key := range m.versions {
		f.judge(key)
	}
	for key := range records {
		if !f.judged(key) {
			f.report(key, "was never written, or was deleted long ago")
		}
	}
	wrong = append(wrong, f.wrong...)
	wrong = append(wrong, m.adopt(opened, records)...)
	slices.Sort(wrong)
	return wrong
}

// adopt makes what was found the state to go on from.
func (m *Model) adopt(opened store.Revision, records map[store.Key]Held) (wrong []string) {
	owner := map[store.Revision]store.Key{}
	m.versions = map[store.Key][]version{}
	for key, held := range records {
		if other, again := owner[held.Revision]; again {
			wrong = append(wrong, fmt.Sprintf("%s and %s have the same revision %d", key, other, held.Revision))
		}
		if held.Revision > opened {
			wrong = append(wrong, fmt.Sprintf("%s has revision %d, the store opened at %d", key, held.Revision, opened))
		}
		owner[held.Revision] = key
		m.versions[key] = []version{{Held: held}}
		m.used[held.Revision] = true
	}
	for key := range m.lazy {
		if _, there := records[key]; !there {
			m.versions[key] = []version{{}}
		}
	}
	m.opened, m.last = opened, max(m.last, opened)
	m.writers, m.waiting, m.known = nil, nil, true
	return wrong
}

// finding is one comparison.
type finding struct {
	model   *Model
	records map[store.Key]Held
	fresh   map[store.Key]bool // written by a commit that was not acknowledged
	wrong   []string
}

func (f *finding) report(key store.Key, format string, args ...any) {
	f.wrong = append(f.wrong, key.String()+" "+fmt.Sprintf(format, args...))
}

func (f *finding) judged(key store.Key) bool {
	return f.fresh[key] || f.model.versions[key] != nil
}

// judgeCommit judges the commit that a writer had under way: all of it, or
// nothing of it.
func (f *finding) judgeCommit(writer int, ops []store.Op) {
	var isNew, isOld []string
	for _, op := range ops {
		if op.Action == store.Check {
			continue
		}
		if f.isNew(op) {
			isNew = append(isNew, op.Key.String())
		}
		if f.isOld(op.Key) {
			isOld = append(isOld, op.Key.String())
		}
	}
	writes := 0
	for _, op := range ops {
		if op.Action != store.Check {
			writes++
		}
	}
	switch {
	case len(isOld) == writes:
	case len(isNew) == writes:
		for _, op := range ops {
			f.fresh[op.Key] = op.Action != store.Check
		}
	case len(isNew) > 0:
		for _, op := range ops {
			f.fresh[op.Key] = true // they are told of here, once
		}
		f.wrong = append(f.wrong, fmt.Sprintf("of writer %d's commit that was under way, %s as after it, %s as before",
			writer, strings.Join(isNew, " "), strings.Join(isOld, " ")))
	}
}

// isNew reports whether a key is as an unacknowledged operation leaves it.
func (f *finding) isNew(op store.Op) bool {
	held, there := f.records[op.Key]
	if op.Action == store.Delete {
		return !there
	}
	return there && held.Digest == DigestOf(op.Value) && !f.model.used[held.Revision]
}

func (f *finding) isOld(key store.Key) bool { return f.complaint(key) == "" }

// judge judges a key that nobody was writing.
func (f *finding) judge(key store.Key) {
	if f.fresh[key] {
		return
	}
	if complaint := f.complaint(key); complaint != "" {
		f.report(key, "%s", complaint)
	}
}

// complaint says what is wrong with a key, compared with what was acknowledged.
func (f *finding) complaint(key store.Key) string {
	held := f.records[key] // the zero value is Absent
	versions := f.model.versions[key]
	if versions == nil {
		versions = []version{{}}
	}
	i := slices.IndexFunc(versions, func(v version) bool { return v.Digest == held.Digest })
	newest := i == len(versions)-1
	switch {
	case i < 0 && held.Digest == Absent:
		return fmt.Sprintf("is missing, its revision %d was acknowledged", versions[0].Revision)
	case i < 0 && versions[len(versions)-1].Digest == Absent:
		return fmt.Sprintf("is there with revision %d, its deletion at revision %d was acknowledged", held.Revision, versions[0].Revision)
	case i < 0:
		return fmt.Sprintf("has another value with revision %d than those acknowledged, revisions %v", held.Revision, revisions(versions))
	case held.Digest == Absent:
		return ""
	case held.Revision > f.model.last && f.model.lazy[key] && !f.model.closed:
		return "" // stamped afresh
	case held.Revision != versions[i].Revision:
		return fmt.Sprintf("has revision %d, acknowledged was %d", held.Revision, versions[i].Revision)
	case !newest:
		return fmt.Sprintf("went back to revision %d, %d was acknowledged: it needs a fresh one", held.Revision, versions[len(versions)-1].Revision)
	}
	return ""
}

func revisions(versions []version) []store.Revision {
	seen := map[store.Revision]bool{}
	for _, v := range versions {
		seen[v.Revision] = true
	}
	return slices.Sorted(maps.Keys(seen))
}
