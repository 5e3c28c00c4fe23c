package bolt

import (
	"context"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/skiff-sh/skiff/internal/store"
	"github.com/skiff-sh/skiff/internal/store/storetest"
)

const testFile = "store.db"

// suites are the engine in all its moods.
func suites() map[string]storetest.Suite {
	suites := map[string]storetest.Suite{}
	for name, options := range map[string]Options{
		"defaults":         {},
		"every value due":  {LazyWindow: 1, NoSync: true},
		"nothing lazy":     {LazyWindow: -1, NoSync: true},
		"scarce revisions": {Reserve: 3, NoSync: true},
		"scarce memory":    {LazyBytes: 500, BatchBytes: 100, QueueBytes: 300, NoSync: true},
		"always compact":   {LazyWindow: time.Millisecond, CompactBytes: 1, NoSync: true},
	} {
		suites[name] = storetest.Suite{
			Open: func(dir string) (store.Engine, error) { return Open(filepath.Join(dir, testFile), options) },
			File: testFile,
			Restore: func(dir string, snapshot io.Reader) error {
				return Restore(context.Background(), filepath.Join(dir, testFile), snapshot)
			},
		}
	}
	return suites
}

func TestEngine(t *testing.T) {
	for name, suite := range suites() {
		t.Run(name, func(t *testing.T) { storetest.Run(t, suite) })
	}
}

// soakEnv has TestSoak go on for that long, and the crash test kill that often;
// soakSeed repeats the walk that a failed one has named.
const (
	soakEnv  = "SKIFF_SOAK"
	soakSeed = "SKIFF_SEED"
)

// soak returns for how long the long tests shall go on.
func soak(t *testing.T) (d time.Duration, long bool) {
	text := os.Getenv(soakEnv)
	if text == "" {
		return 0, false
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("%s: %v", soakEnv, err)
	}
	return d, true
}

// TestSoak walks at random beside the model, with each suite in turn.
func TestSoak(t *testing.T) {
	d, long := soak(t)
	if !long {
		t.Skipf("%s says for how long", soakEnv)
	}
	seed, err := strconv.ParseUint(os.Getenv(soakSeed), 10, 64)
	again := err == nil
	for start := time.Now(); time.Since(start) < d && !t.Failed(); {
		if !again {
			seed = rand.Uint64()
		}
		for name, suite := range suites() {
			t.Run(name, func(t *testing.T) { suite.Walk(t, seed, 10_000) })
		}
		if again {
			return
		}
	}
}
