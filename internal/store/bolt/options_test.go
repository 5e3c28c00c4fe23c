package bolt

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/skiff-sh/skiff/internal/store"
)

// TestDurableWindows: a window can say that nothing is lazy, for all buckets or
// for one.
func TestDurableWindows(t *testing.T) {
	lease := lazily(put("lease", []byte("x")))
	event := lease
	event.Key.Bucket = "events"
	for name, test := range map[string]struct {
		options      Options
		lease, event bool // durable
	}{
		"defaults":             {Options{}, false, false},
		"none":                 {Options{LazyWindow: -1}, true, true},
		"0 for one bucket":     {Options{LazyWindows: map[string]time.Duration{"events": 0}}, false, true},
		"all but one bucket":   {Options{LazyWindow: -1, LazyWindows: map[string]time.Duration{"events": time.Minute}}, true, false},
		"negative for another": {Options{LazyWindows: map[string]time.Duration{"things": -1}}, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			e := mustOpen(t, filepath.Join(t.TempDir(), testFile), test.options)
			if err := commit(e, put("other", nil)); err != nil { // revisions are reserved from here
				t.Fatal(err)
			}
			for _, op := range []struct {
				op      store.Op
				durable bool
			}{{lease, test.lease}, {event, test.event}} {
				before := e.Stats()
				if err := commit(e, op.op); err != nil {
					t.Fatal(err)
				}
				after := e.Stats()
				if durable := after.Commits > before.Commits; durable != op.durable || durable == (after.LazyBytes > before.LazyBytes) {
					t.Errorf("%s: durable %t, want %t; lazy bytes %d, then %d", op.op.Key, durable, op.durable, before.LazyBytes, after.LazyBytes)
				}
			}
		})
	}
}

// TestObserve is told of what came to disk, and of nothing else.
func TestObserve(t *testing.T) {
	var seen []Transaction
	e := mustOpen(t, filepath.Join(t.TempDir(), testFile), Options{Observe: func(tx Transaction) { seen = append(seen, tx) }})
	for _, ops := range [][]store.Op{
		{put("a", make([]byte, 100_000)), put("b", nil), {Key: put("a", nil).Key, Action: store.Check, Expect: store.Any}},
		{lazily(put("lease", nil))},
		{lazily(put("lease", nil))},
		{{Key: put("b", nil).Key, Action: store.Check, Expect: store.Any}},
	} {
		if err := commit(e, ops...); err != nil {
			t.Fatal(err)
		}
	}
	if err := commit(e, store.Op{Key: put("b", nil).Key, Expect: 99}); err == nil {
		t.Error("no conflict")
	}
	if e.Stats().LazyBytes == 0 {
		t.Error("nothing is lazy")
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if len(seen) != 2 || seen[0].Requests != 1 || seen[0].Operations != 2 || seen[0].Bytes < 100_000 || seen[0].Took <= 0 ||
		seen[1].Requests != 0 || seen[1].Operations != 1 {
		t.Errorf("seen %+v", seen)
	}
}
