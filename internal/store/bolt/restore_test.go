package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skiff-sh/skiff/internal/store"
	"github.com/skiff-sh/skiff/internal/store/bolt/format"
)

func TestRestore(t *testing.T) {
	e := mustOpen(t, filepath.Join(t.TempDir(), testFile), Options{})
	for _, op := range []store.Op{put("a", []byte("1")), lazily(put("b", []byte("2")))} {
		if err := commit(e, op); err != nil {
			t.Fatal(err)
		}
	}
	var snapshot bytes.Buffer
	if err := e.Snapshot(context.Background(), &snapshot); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, testFile)
	whole := snapshot.Bytes()
	for _, test := range []struct {
		name string
		data []byte
		want string
	}{
		{"empty", nil, "the snapshot is empty"},
		{"cut", whole[:len(whole)-3*pageSize], "fewer than the"},
		{"changed", bytes.ReplaceAll(whole, []byte("\x01\x01\x00\x00\x00"), []byte("\x01\x01\x00\x10\x00")), format.GoOn},
		{"something else", bytes.Repeat([]byte("x"), 4*pageSize), format.GoOn},
	} {
		err := Restore(context.Background(), path, bytes.NewReader(test.data))
		if !errors.Is(err, store.ErrDamaged) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
	if err := Restore(context.Background(), path, bytes.NewReader(whole)); err != nil {
		t.Fatal(err)
	}
	files, _ := os.ReadDir(dir)
	if len(files) != 3 { // the store, its lock, and the revision that it goes on from
		t.Errorf("left behind: %v", files)
	}
	if err := Restore(context.Background(), path, bytes.NewReader(whole)); err == nil || !strings.Contains(err.Error(), "move it away first") {
		t.Errorf("over an existing store: %v", err)
	}
	restored := mustOpen(t, path, Options{})
	if got := fmt.Sprint(names(t, restored)); got != "[a b]" || restored.Revision() < restoreSkip {
		t.Errorf("restored %s at revision %d", got, restored.Revision())
	}
	var locked *LockedError
	if err := Restore(context.Background(), path, bytes.NewReader(whole)); !errors.As(err, &locked) {
		t.Errorf("over an open store: %v", err)
	}
}

// TestRestoreAgain restores one snapshot twice: what was handed out in between is
// not handed out again.
func TestRestoreAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), testFile)
	e := mustOpen(t, path, Options{})
	if err := commit(e, put("a", []byte("1"))); err != nil {
		t.Fatal(err)
	}
	var snapshot bytes.Buffer
	if err := e.Snapshot(context.Background(), &snapshot); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := commit(e, put("a", []byte("2"))); err != nil {
			t.Fatal(err)
		}
		seen := e.Revision()
		e.Close()
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := Restore(context.Background(), path, bytes.NewReader(snapshot.Bytes())); err != nil {
			t.Fatal(err)
		}
		if e = mustOpen(t, path, Options{}); e.Revision() <= seen {
			t.Errorf("restored at revision %d, %d had been seen", e.Revision(), seen)
		}
	}
}
