package bolt

import (
	"container/list"
	"slices"
	"strings"
	"time"

	"github.com/skiff-sh/skiff/internal/store"
)

// lazyWrite is the newest state of a record that is not on disk yet.
type lazyWrite struct {
	key      store.Key
	deleted  bool
	revision store.Revision
	value    []byte
	since    time.Time // when the oldest write not on disk was made
}

func (w *lazyWrite) bytes() int {
	return len(w.key.Bucket) + len(w.key.Name) + len(w.value) + opBytes
}

// pending are all lazy writes that are not on disk: by key, and for each bucket
// the oldest first.
type pending struct {
	options Options
	byKey   map[store.Key]*list.Element // of *lazyWrite
	byAge   map[string]*list.List       // by bucket
	bytes   int
}

func newPending(options Options) pending {
	return pending{options: options, byKey: map[store.Key]*list.Element{}, byAge: map[string]*list.List{}}
}

func (p *pending) get(key store.Key) (*lazyWrite, bool) {
	if element, ok := p.byKey[key]; ok {
		return element.Value.(*lazyWrite), true
	}
	return nil, false
}

// set adds a write or replaces an older one, whose age and place it inherits.
func (p *pending) set(w *lazyWrite) {
	p.bytes += w.bytes()
	if element, ok := p.byKey[w.key]; ok {
		old := element.Value.(*lazyWrite)
		p.bytes -= old.bytes()
		w.since = old.since
		element.Value = w
		return
	}
	ages := p.byAge[w.key.Bucket]
	if ages == nil {
		ages = list.New()
		p.byAge[w.key.Bucket] = ages
	}
	p.byKey[w.key] = ages.PushBack(w)
}

// drop forgets a write that is on disk, or that a durable one has superseded.
func (p *pending) drop(key store.Key) {
	element, ok := p.byKey[key]
	if !ok {
		return
	}
	p.bytes -= element.Value.(*lazyWrite).bytes()
	p.byAge[key.Bucket].Remove(element)
	delete(p.byKey, key)
}

// due returns the writes that have waited for half their window at least, or
// all of them, by key: neighbours share pages.
func (p *pending) due(now time.Time, all bool) []*lazyWrite {
	var due []*lazyWrite
	for bucket, ages := range p.byAge {
		half := p.options.window(bucket) / 2
		for element := ages.Front(); element != nil; element = element.Next() {
			w := element.Value.(*lazyWrite)
			if !all && now.Sub(w.since) < half {
				break
			}
			due = append(due, w)
		}
	}
	slices.SortFunc(due, func(a, b *lazyWrite) int {
		if c := strings.Compare(a.key.Bucket, b.key.Bucket); c != 0 {
			return c
		}
		return strings.Compare(a.key.Name, b.key.Name)
	})
	return due
}

// deadline returns when the first write must be on disk.
func (p *pending) deadline() (first time.Time, ok bool) {
	for bucket, ages := range p.byAge {
		if ages.Len() == 0 {
			continue
		}
		at := ages.Front().Value.(*lazyWrite).since.Add(p.options.window(bucket))
		if !ok || at.Before(first) {
			first, ok = at, true
		}
	}
	return first, ok
}

// inBucket returns the writes of a bucket in name order.
func (p *pending) inBucket(bucket string) []*lazyWrite {
	ages := p.byAge[bucket]
	if ages == nil {
		return nil
	}
	in := make([]*lazyWrite, 0, ages.Len())
	for element := ages.Front(); element != nil; element = element.Next() {
		in = append(in, element.Value.(*lazyWrite))
	}
	slices.SortFunc(in, func(a, b *lazyWrite) int { return strings.Compare(a.key.Name, b.key.Name) })
	return in
}

// buckets adds the buckets that have only lazy writes so far to those on disk.
func (p *pending) buckets(names []string) []string {
	for bucket, ages := range p.byAge {
		if ages.Len() > 0 && !slices.Contains(names, bucket) {
			names = append(names, bucket)
		}
	}
	slices.Sort(names)
	return names
}
