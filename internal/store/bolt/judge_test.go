package bolt

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/skiff-sh/skiff/internal/store"
	"github.com/skiff-sh/skiff/internal/store/bolt/format"
)

// judge says what is wrong with what came of a file of which one byte is not as
// it was.
func (o *oracle) judge(s seen, at int) error {
	var victim *place
	expected := o.records
	if victim = o.at[at]; victim != nil {
		expected = o.without(victim.key)
	}
	switch {
	case s.checkErr != nil:
		return fmt.Errorf("check: %w", s.checkErr)
	case s.saveErr != nil:
		return fmt.Errorf("salvage: %w", s.saveErr)
	case !maps.Equal(s.salvaged, expected):
		return fmt.Errorf("salvaged: %s; told: %v", difference(expected, s.salvaged), s.damages)
	case s.after != 0 && s.after <= o.reserved:
		return fmt.Errorf("the salvaged store goes on at revision %d, %d may have been handed out", s.after, o.reserved)
	}
	if err := o.judgeErrors(s); err != nil {
		return err
	}
	if victim == nil {
		return nil
	}
	named := slices.ContainsFunc(s.damages, func(d store.Damage) bool {
		return d.Key == victim.key || victim.inName && d.Key.Bucket == victim.key.Bucket &&
			(oneByteApart(d.Key.Name, victim.key.Name) || d.Key.Name == "" && strings.HasPrefix(d.Reason, "a record "))
	})
	switch {
	case !named:
		return fmt.Errorf("%s is damaged; told: %v", victim.key, s.damages)
	case s.openErr == nil && s.scanErrs[victim.key.Bucket] == nil:
		return fmt.Errorf("%s is damaged; the scan told nothing", victim.key)
	}
	return nil
}

// judgeErrors checks that whatever was read is right, and that every refusal is
// a clear one of which the check knows.
func (o *oracle) judgeErrors(s seen) error {
	refusals := []error{s.readErr, s.openErr}
	for bucket, err := range s.scanErrs {
		refusals = append(refusals, err)
		for key := range o.records {
			if key.Bucket == bucket && s.opened != nil {
				s.opened[key] = o.opened[key] // told to be damaged, so nothing is claimed of it
			}
		}
	}
	for _, err := range refusals {
		switch {
		case err == nil:
		case !errors.Is(err, store.ErrDamaged) || !strings.Contains(err.Error(), format.GoOn):
			return fmt.Errorf("not a clear error: %w", err)
		case len(s.damages) == 0 && s.checkErr == nil:
			return fmt.Errorf("the check found nothing, but: %w", err)
		}
	}
	if s.readErr == nil && !maps.Equal(s.read, o.records) {
		return fmt.Errorf("read: %s", difference(o.records, s.read))
	}
	if s.openErr == nil && !maps.Equal(s.opened, o.opened) {
		return fmt.Errorf("opened and scanned: %s; %v", difference(o.opened, s.opened), s.scanErrs)
	}
	if s.openErr == nil && s.revision != o.revision && (len(s.scanErrs) == 0 || s.revision < o.reserved) {
		return fmt.Errorf("opened at revision %d, want %d", s.revision, o.revision)
	}
	return nil
}

func oneByteApart(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	n := 0
	for i := range a {
		if a[i] != b[i] {
			n++
		}
	}
	return n == 1
}

// difference names the records that are not the same.
func difference(want, have map[store.Key]string) string {
	var text []string
	for key, value := range want {
		if got, ok := have[key]; !ok {
			text = append(text, "lost "+key.String())
		} else if got != value {
			text = append(text, "changed "+key.String())
		}
	}
	for key := range have {
		if _, ok := want[key]; !ok {
			text = append(text, "not there before "+key.String())
		}
	}
	slices.Sort(text)
	if len(text) > 12 {
		text = append(text[:12], fmt.Sprint(len(text)-12, " more"))
	}
	return strings.Join(text, ", ")
}

// judgePages says what is wrong with what came of a file of which some pages
// are not what they were, and are nowhere else unless they were swapped.
func (o *oracle) judgePages(s seen, pages []int, swapped bool) error {
	if err := o.judgeErrors(s); err != nil {
		return err
	}
	if s.saveErr != nil {
		if errors.Is(s.saveErr, store.ErrDamaged) && errors.Is(s.checkErr, store.ErrDamaged) && slices.ContainsFunc(pages, o.top) {
			return nil
		}
		return fmt.Errorf("salvage: %w", s.saveErr)
	}
	if slices.ContainsFunc(pages, o.top) && !swapped {
		// Which buckets there were is gone: what is left is the state before.
		durable := maps.Clone(s.salvaged)
		// Lazy writes came to disk later than they were made.
		maps.DeleteFunc(durable, func(k store.Key, _ string) bool { return strings.HasPrefix(k.Bucket, "leases") })
		for _, past := range append(o.past, nil) {
			part := maps.Clone(durable)
			maps.DeleteFunc(part, func(k store.Key, v string) bool { return past[k] == v })
			if len(part) == 0 && len(s.damages) > 0 {
				return nil
			}
		}
		return fmt.Errorf("salvaged what never was: %s", difference(o.records, s.salvaged))
	}
	lost := o.loses(pages, swapped)
	may := map[store.Key]bool{}
	for _, id := range pages {
		if bucket, ok := o.branch[id]; ok && len(pages) > 2 {
			// Without its branch nothing of the bucket can be proved to be whole
			// when parts of it are gone as well.
			for key := range o.records {
				may[key] = may[key] || key.Bucket == bucket
			}
		}
	}
	for _, key := range lost {
		may[key] = may[key] || len(pages) > 2 // of a page that was cut, the rest is still there
	}
	for key := range may {
		if _, kept := s.salvaged[key]; !kept && !slices.Contains(lost, key) {
			lost = append(lost, key)
		} else if kept {
			lost = slices.DeleteFunc(lost, func(k store.Key) bool { return k == key })
		}
	}
	if expected := o.without(lost...); !maps.Equal(s.salvaged, expected) {
		return fmt.Errorf("salvaged: %s; told: %v", difference(expected, s.salvaged), s.damages)
	}
	for _, key := range lost {
		if !slices.ContainsFunc(s.damages, func(d store.Damage) bool {
			return d.Key == key || d.Key == store.Key{Bucket: key.Bucket}
		}) {
			return fmt.Errorf("%s is lost; told: %v", key, s.damages)
		}
	}
	return nil
}

func (o *oracle) top(page int) bool { return slices.Contains(o.tops, page) }

// loses returns the records that are lost with some pages. Pages that were
// swapped can be found again, unless they are part of several that belong
// together.
func (o *oracle) loses(pages []int, swapped bool) (lost []store.Key) {
	size := map[int]int{}
	for _, head := range o.leaf {
		size[head]++
	}
	gone := map[store.Key]bool{}
	for at, place := range o.at {
		page := at / pageSize
		head := o.leaf[page]
		if place == nil || swapped && size[head] == 1 {
			continue
		}
		if slices.Contains(pages, page) || slices.Contains(pages, head) {
			gone[place.key] = true
		}
	}
	return slices.Collect(maps.Keys(gone))
}
