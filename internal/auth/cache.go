package auth

import (
	"crypto/sha256"
	"sync"
)

// cacheSize bounds a cache: more credentials than a large cluster uses at once.
const cacheSize = 4096

// cache remembers which credentials carry a good signature, because checking
// one costs more than answering most requests. It keeps nothing that can change:
// times and whether objects still exist are looked at every time.
type cache[V any] struct {
	mu      sync.RWMutex
	entries map[[sha256.Size]byte]V
}

func (c *cache[V]) get(key [sha256.Size]byte) (V, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	v, ok := c.entries[key]
	return v, ok
}

// put forgets everything when full: the next requests fill it again.
func (c *cache[V]) put(key [sha256.Size]byte, v V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries == nil || len(c.entries) >= cacheSize {
		c.entries = map[[sha256.Size]byte]V{}
	}
	c.entries[key] = v
}
