package node

import (
	"context"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/skiff-sh/skiff/embed"
	"github.com/skiff-sh/skiff/internal/agent"
)

// slowStore takes its time to import.
type slowStore struct {
	ownStore
	mu      sync.Mutex
	imports int
	has     bool
}

func (s *slowStore) Get(context.Context, string) (agent.Image, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return agent.Image{}, s.has, nil
}

func (s *slowStore) Import(_ context.Context, from io.Reader) ([]agent.Image, error) {
	s.mu.Lock()
	s.imports++
	s.mu.Unlock()
	if _, err := io.Copy(io.Discard, from); err != nil {
		return nil, err
	}
	time.Sleep(10 * time.Millisecond)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.has = true
	return nil, nil
}

// TestCarriedImageIsImportedOnce has many Pods ask at once: each import takes megabytes.
func TestCarriedImageIsImportedOnce(t *testing.T) {
	s := &slowStore{}
	c := &carried{ownStore: s}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, ok, err := c.Get(t.Context(), embed.HelloImage); !ok || err != nil {
				t.Errorf("present %v, error %v", ok, err)
			}
		})
	}
	wg.Wait()
	if s.imports != 1 {
		t.Errorf("%d imports", s.imports)
	}
}
