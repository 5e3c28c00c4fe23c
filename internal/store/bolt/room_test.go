package bolt

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/skiff-sh/skiff/internal/store"
)

// TestDeleteOnFullDisk: when the disk is full to the last page, what is there can
// be marked and deleted, by many at once, and the room it leaves is used again.
func TestDeleteOnFullDisk(t *testing.T) {
	for _, size := range []int{100, benchBytes, 40_000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			dir := smallDisk(t, "3m")
			path := filepath.Join(dir, testFile)
			e := mustOpen(t, path, Options{})
			stored := fillStore(t, e, size)
			fillDisk(t, dir)
			for range 2 { // … and opened anew on a full disk
				var err error
				for i := 0; err == nil; i++ {
					err = commit(e, put(fmt.Sprint("too much ", i), make([]byte, size)))
				}
				if !errors.Is(err, store.ErrFull) || !strings.Contains(err.Error(), "free some space") {
					t.Fatalf("a put: %v", err)
				}
				e.Close()
				e = mustOpen(t, path, Options{})
			}
			var all sync.WaitGroup
			for w := range 8 {
				all.Go(func() {
					for i := w; i < stored; i += 8 {
						marked := put(benchName(i), make([]byte, size+50))
						gone := put(benchName(i), nil)
						gone.Action = store.Delete
						for _, op := range []store.Op{marked, gone} {
							if err := commit(e, op); err != nil {
								t.Errorf("%d of %d: %v", i, stored, err)
								return
							}
						}
					}
				})
			}
			all.Wait()
			for i := range stored / 2 {
				if err := commit(e, put(benchName(i), make([]byte, size))); err != nil {
					t.Fatalf("%d of %d in the room that is free again: %v", i, stored, err)
				}
			}
			if err := e.Close(); err != nil {
				t.Error(err)
			}
			if n := len(names(t, mustOpen(t, path, Options{}))); n < stored/2 {
				t.Errorf("opened again it holds %d records, want %d", n, stored/2)
			}
		})
	}
}

// fillStore writes records of a size until no more fit, and returns how many do.
func fillStore(t *testing.T, e *Engine, size int) (stored int) {
	t.Helper()
	for together := max(1, 50_000/size); ; {
		var ops []store.Op
		for i := range together {
			ops = append(ops, put(benchName(stored+i), make([]byte, size)))
		}
		err := commit(e, ops...)
		if errors.Is(err, store.ErrFull) && together > 1 {
			together = 1
			continue
		}
		if errors.Is(err, store.ErrFull) {
			t.Logf("%d records fit: %v", stored, err)
			return stored
		}
		if err != nil {
			t.Fatal(err)
		}
		stored += len(ops)
	}
}
