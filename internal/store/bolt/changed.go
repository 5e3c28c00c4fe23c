package bolt

import (
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/skiff-sh/skiff/internal/store"
)

// changed are the records that were written since somebody last took them.
type changed struct {
	mu    sync.Mutex // guards all below
	sizes map[store.Key]int
	bytes int // of the keys and their values
}

func newChanged() *changed { return &changed{sizes: map[store.Key]int{}} }

// add notes a record whose value has so many bytes.
func (c *changed) add(key store.Key, size int) {
	size += len(key.Bucket) + len(key.Name) + opBytes
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bytes += size - c.sizes[key]
	c.sizes[key] = size
}

// size returns how much there is to take.
func (c *changed) size() (records, bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.sizes), c.bytes
}

// take removes all records and returns their keys in order.
func (c *changed) take() []store.Key {
	c.mu.Lock()
	taken := c.sizes
	c.sizes, c.bytes = map[store.Key]int{}, 0
	c.mu.Unlock()
	return slices.SortedFunc(maps.Keys(taken), compareKeys)
}

// compareKeys orders records as the file does.
func compareKeys(a, b store.Key) int {
	if c := strings.Compare(a.Bucket, b.Bucket); c != 0 {
		return c
	}
	return strings.Compare(a.Name, b.Name)
}
