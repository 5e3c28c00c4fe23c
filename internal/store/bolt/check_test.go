package bolt

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skiff-sh/skiff/internal/store"
)

// overwrite changes every page of an open store's file that holds a text.
func overwrite(t *testing.T, path, text string, change func(page []byte)) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	page := make([]byte, pageSize)
	for at := int64(2 * pageSize); ; at += pageSize {
		if _, err := f.ReadAt(page, at); err != nil {
			return
		}
		if !bytes.Contains(page, []byte(text)) {
			continue
		}
		change(page)
		if _, err := f.WriteAt(page, at); err != nil {
			t.Fatal(err)
		}
	}
}

func checked(t *testing.T, e *Engine) (found []string) {
	t.Helper()
	if err := e.Check(context.Background(), func(d store.Damage) { found = append(found, d.String()) }); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(e.path + checkSuffix + "*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	return found
}

// TestCheckOpen damages a file under an open engine: a value is named, and so
// are the records on a page that is gone.
func TestCheckOpen(t *testing.T) {
	for name, test := range map[string]struct {
		change func(page []byte)
		want   string
	}{
		"a value": {func(page []byte) {
			at := bytes.Index(page, []byte("marker 25"))
			page[at] = 'M'
		}, "things/25: its checksum"},
		"a page":                 {func(page []byte) { clear(page) }, "are lost"},
		"a page of a wrong kind": {func(page []byte) { page[8], page[9] = pageBranch, 0 }, "damaged header; nothing is lost by that"},
	} {
		t.Run(name, func(t *testing.T) {
			e := mustOpen(t, filepath.Join(t.TempDir(), testFile), Options{})
			for i := range 50 {
				name := fmt.Sprintf("%02d", i)
				if err := commit(e, put(name, fmt.Appendf(nil, "marker %s%01000d", name, 0))); err != nil {
					t.Fatal(err)
				}
			}
			if found := checked(t, e); found != nil {
				t.Errorf("while all was well: %v", found)
			}
			overwrite(t, e.path, "marker 25", test.change)
			found := strings.Join(checked(t, e), "\n")
			if !strings.Contains(found, test.want) || strings.Contains(found, "things/10") {
				t.Errorf("found %s", found)
			}
			if err := commit(e, put("after", nil)); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestCheckUnderLoad finds nothing where nothing is wrong, whatever happens.
func TestCheckUnderLoad(t *testing.T) {
	e := mustOpen(t, filepath.Join(t.TempDir(), testFile), Options{CompactBytes: -1})
	fill(t, e, 3000)
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		writeUntil(t, e, stop, 1, map[string]string{})
	}()
	for range 5 {
		if err := e.Compact(context.Background()); err != nil {
			t.Error(err)
		}
		if found := checked(t, e); found != nil {
			t.Errorf("found %v", found)
		}
	}
	close(stop)
	<-done
}
