package bolt

import (
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

// pending are all lazy writes that are not on disk.
type pending struct {
	options Options
	writes  map[store.Key]*lazyWrite
	bytes   int
}

func newPending(options Options) pending {
	return pending{options: options, writes: map[store.Key]*lazyWrite{}}
}

// set adds a write or replaces an older one, whose age it inherits.
func (p *pending) set(w *lazyWrite) {
	if old, ok := p.writes[w.key]; ok {
		p.bytes -= old.bytes()
		w.since = old.since
	}
	p.writes[w.key] = w
	p.bytes += w.bytes()
}

// drop forgets a write that is on disk, or that a durable one has superseded.
func (p *pending) drop(key store.Key) {
	if old, ok := p.writes[key]; ok {
		p.bytes -= old.bytes()
		delete(p.writes, key)
	}
}

// due returns the writes that have waited for half their window at least, or
// all of them, by key: neighbours share pages.
func (p *pending) due(now time.Time, all bool) []*lazyWrite {
	var due []*lazyWrite
	for key, w := range p.writes {
		if all || now.Sub(w.since) >= p.options.window(key.Bucket)/2 {
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
func (p *pending) deadline() (time.Time, bool) {
	var first time.Time
	for key, w := range p.writes {
		if at := w.since.Add(p.options.window(key.Bucket)); first.IsZero() || at.Before(first) {
			first = at
		}
	}
	return first, len(p.writes) > 0
}

// inBucket returns the writes of a bucket in name order.
func (p *pending) inBucket(bucket string) []*lazyWrite {
	var in []*lazyWrite
	for key, w := range p.writes {
		if key.Bucket == bucket {
			in = append(in, w)
		}
	}
	slices.SortFunc(in, func(a, b *lazyWrite) int { return strings.Compare(a.key.Name, b.key.Name) })
	return in
}

// buckets adds the buckets that have only lazy writes so far to those on disk.
func (p *pending) buckets(names []string) []string {
	for key := range p.writes {
		if !slices.Contains(names, key.Bucket) {
			names = append(names, key.Bucket)
		}
	}
	slices.Sort(names)
	return names
}
