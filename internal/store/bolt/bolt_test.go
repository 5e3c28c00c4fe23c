package bolt

import (
	"path/filepath"
	"testing"

	"github.com/skiff-sh/skiff/internal/store"
	"github.com/skiff-sh/skiff/internal/store/storetest"
)

const testFile = "store.db"

func TestEngine(t *testing.T) {
	for name, options := range map[string]Options{
		"defaults":         {},
		"every value due":  {LazyWindow: 1, NoSync: true},
		"scarce revisions": {Reserve: 3, NoSync: true},
		"scarce memory":    {LazyBytes: 500, BatchBytes: 100, QueueBytes: 300, NoSync: true},
	} {
		t.Run(name, func(t *testing.T) {
			storetest.Run(t, storetest.Suite{
				Open: func(dir string) (store.Engine, error) { return Open(filepath.Join(dir, testFile), options) },
				File: testFile,
			})
		})
	}
}
