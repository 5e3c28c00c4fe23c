package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/skiff-sh/skiff/internal/store"
	"github.com/skiff-sh/skiff/internal/store/bolt/format"
)

// stored makes a store with some records, stopped cleanly or not, and returns
// what the file holds then.
func stored(t *testing.T, clean bool) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), testFile)
	e := mustOpen(t, path, Options{})
	for i := range 20 {
		if err := commit(e, put(fmt.Sprintf("%02d", i), make([]byte, 700))); err != nil {
			t.Fatal(err)
		}
	}
	if clean {
		e.Close()
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func written(t *testing.T, data []byte) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), testFile)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// inspect returns what a check tells.
func inspect(t *testing.T, path string) (all []string) {
	t.Helper()
	if _, err := Check(t.Context(), path, func(d store.Damage) { all = append(all, d.String()) }); err != nil {
		t.Fatal(err)
	}
	return all
}

// TestLostMeta: bbolt would go back by a transaction without a word when the
// newer of its two meta pages is bad. That is also what a power cut leaves that
// hit the meta page; all the rest is on disk then.
func TestLostMeta(t *testing.T) {
	for _, clean := range []bool{true, false} {
		whole := stored(t, clean)
		last, _ := metaPages(whole)
		for how, spoil := range map[string]func(page []byte){
			"zeroed":  func(page []byte) { clear(page) },
			"torn":    func(page []byte) { copy(page[48:], make([]byte, 20)) },
			"one bit": func(page []byte) { page[16+16] ^= 4 },
		} {
			for slot := range 2 {
				data := bytes.Clone(whole)
				spoil(data[slot*pageSize:][:pageSize])
				path := written(t, data)
				if told := inspect(t, path); len(told) == 0 || !strings.HasPrefix(told[0], fmt.Sprintf("meta page %d is damaged", slot)) {
					t.Errorf("clean %t, meta page %d %s: check told %q", clean, slot, how, told)
				}
				e, err := Open(path, Options{})
				if err != nil {
					t.Errorf("clean %t, meta page %d %s: %v", clean, slot, how, err)
					continue
				}
				if got := len(names(t, e)); got != 20 || e.Revision() < 20 {
					t.Errorf("clean %t, meta page %d %s: %d records at revision %d", clean, slot, how, got, e.Revision())
				}
				if err := commit(e, put("new", nil)); err != nil {
					t.Error(err)
				}
				e.Close()
				if told := inspect(t, path); slot == last.slot && len(told) > 0 {
					t.Errorf("clean %t, meta page %d %s: after the next commit: %q", clean, slot, how, told)
				}
			}
		}
	}
}

// TestLostMetaAndMore: when part of what the bad meta page led to is bad too,
// going back would lose it silently.
func TestLostMetaAndMore(t *testing.T) {
	data := stored(t, true)
	meta, _ := metaPages(data)
	clear(data[meta.slot*pageSize:][:pageSize])
	last := []byte("19\x01\x00") // the name and the first bytes of the record
	for i := bytes.LastIndex(data, last); i >= 0; i = bytes.LastIndex(data[:i], last) {
		data[i+100] ^= 1
	}
	path := written(t, data)
	if _, err := Open(path, Options{}); !errors.Is(err, store.ErrDamaged) || !strings.HasSuffix(err.Error(), format.GoOn) {
		t.Errorf("got %v", err)
	}
	to := path + ".salvaged"
	if _, err := Salvage(t.Context(), path, to, func(store.Damage) {}); err != nil {
		t.Fatal(err)
	}
	if got := names(t, mustOpen(t, to, Options{})); len(got) != 19 {
		t.Errorf("salvaged %v", got)
	}
}

// TestEmptiedTree: a tree of buckets that seems to be empty is not a new store.
func TestEmptiedTree(t *testing.T) {
	data := stored(t, true)
	binary.NativeEndian.PutUint16(data[topPages(data)[0]*pageSize+10:], 0)
	path := written(t, data)
	if _, err := Open(path, Options{}); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("opened: %v", err)
	}
	if told := inspect(t, path); len(told) != 1 || !strings.HasSuffix(told[0], "nothing is lost by that") {
		t.Errorf("check told %q", told)
	}
}

// TestAtRest: a store that somebody has open is let alone.
func TestAtRest(t *testing.T) {
	path := filepath.Join(t.TempDir(), testFile)
	e := mustOpen(t, path, Options{})
	if err := commit(e, put("a", []byte("1"))); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	all := map[string]func() error{
		"check":   func() error { _, err := Check(ctx, path, func(store.Damage) {}); return err },
		"read":    func() error { return Read(ctx, path, func(store.Record) error { return nil }) },
		"salvage": func() error { _, err := Salvage(ctx, path, path+".new", func(store.Damage) {}); return err },
		"in place": func() error {
			_, _, err := SalvageInPlace(ctx, path, func(store.Damage) {})
			return err
		},
		"copy": func() error { return Copy(ctx, path, io.Discard) },
	}
	for what, do := range all {
		var locked *LockedError
		if err := do(); !errors.As(err, &locked) || locked.PID != os.Getpid() {
			t.Errorf("%s of an open store: %v", what, err)
		}
	}
	e.Close()
	for what, do := range all {
		if err := do(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	path = filepath.Join(t.TempDir(), "none")
	for what, do := range all {
		if err := do(); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "name the data directory or the file") {
			t.Errorf("%s of nothing: %v", what, err)
		}
	}
	left, _ := os.ReadDir(filepath.Dir(path))
	if len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestCopyAndContents(t *testing.T) {
	data := stored(t, true)
	path := written(t, data)
	var copied bytes.Buffer
	if err := Copy(t.Context(), path, &copied); err != nil || !bytes.Equal(copied.Bytes(), data) {
		t.Errorf("copied %d bytes of %d: %v", copied.Len(), len(data), err)
	}
	c, err := Check(t.Context(), path, func(store.Damage) {})
	if err != nil || c.Revision != 20 || c.Format != 1 || c.Buckets["things"] != 20 || !c.Clean || c.FileBytes != int64(len(data)) ||
		c.FreeBytes <= 0 || c.FreeBytes >= c.FileBytes {
		t.Errorf("got %+v, %v", c, err)
	}
	if c, err = Check(t.Context(), written(t, stored(t, false)), func(store.Damage) {}); err != nil || c.Clean || c.Revision != 20 {
		t.Errorf("after an unclean stop: %+v, %v", c, err)
	}
}

// TestShrinkingFile cuts the file while it is read.
func TestShrinkingFile(t *testing.T) {
	path := written(t, stored(t, true))
	var all sync.WaitGroup
	all.Go(func() {
		for size := int64(60 * pageSize); size >= 0; size -= pageSize / 2 {
			if err := os.Truncate(path, size); err != nil {
				t.Error(err)
			}
		}
	})
	for range 50 {
		_, err := Check(t.Context(), path, func(store.Damage) {})
		if err == nil {
			err = Read(t.Context(), path, func(store.Record) error { return nil })
		}
		if err != nil && !errors.Is(err, store.ErrDamaged) && !strings.Contains(err.Error(), "end of the file") {
			t.Error(err)
		}
	}
	all.Wait()
}

// TestReadEnds: a context ends it, and so does the callee.
func TestReadEnds(t *testing.T) {
	path := written(t, stored(t, true))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Read(ctx, path, func(store.Record) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	enough := errors.New("enough")
	if err := Read(t.Context(), path, func(store.Record) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("got %v", err)
	}
}

// TestSalvageOfWhole: a new store has the buckets of the old one, the empty ones
// too, the same records, and goes on above all that was handed out.
func TestSalvageOfWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), testFile)
	e := mustOpen(t, path, Options{})
	other := store.Op{Key: store.Key{Bucket: "others", Name: "a"}}
	if err := commit(e, put("a", []byte("1")), lazily(put("b", nil)), other); err != nil {
		t.Fatal(err)
	}
	other.Action, other.Expect = store.Delete, store.Any
	if err := commit(e, other); err != nil {
		t.Fatal(err)
	}
	before, last := everything(t, e), e.Revision()
	e.Close()
	to := filepath.Join(t.TempDir(), testFile)
	c, err := Salvage(t.Context(), path, to, func(d store.Damage) { t.Error(d) })
	if err != nil || c.Revision != last || c.Buckets["things"] != 2 || c.Clean {
		t.Errorf("got %+v, %v", c, err)
	}
	salvaged := mustOpen(t, to, Options{})
	buckets, err := salvaged.Buckets(t.Context())
	if err != nil || fmt.Sprint(buckets) != "[others things]" {
		t.Errorf("got buckets %v, %v", buckets, err)
	}
	if salvaged.Revision() < last+restoreSkip {
		t.Errorf("it goes on at revision %d", salvaged.Revision())
	}
	if got := fmt.Sprint(names(t, salvaged)); got != "[a b]" {
		t.Errorf("got %s of %s", got, before)
	}
}

// TestDamagedState changes every byte of the state in every way that one bit
// makes, and its place: nothing is lost by that, and the check tells of it.
func TestDamagedState(t *testing.T) {
	whole := stored(t, true)
	path := filepath.Join(fastDir(t), testFile)
	root := topPages(whole)[0] * pageSize
	from := root + bytes.Index(whole[root:root+pageSize], []byte(format.MetaBucket))
	for at := from; at < from+len(format.MetaBucket)+bucketHeader+pageHeader+pageElement+len(format.MetaState)+format.StateBytes; at++ {
		if i := at - from - len(format.MetaBucket); i >= bucketHeader && i < bucketHeader+8 || i >= bucketHeader+12 && i < bucketHeader+pageHeader {
			continue // number and continuation of this inline bucket's page: nobody looks
		}
		for bit := range 8 {
			data := bytes.Clone(whole)
			data[at] ^= 1 << bit
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			if told := inspect(t, path); len(told) == 0 {
				t.Errorf("byte %d, bit %d: the check found nothing", at-from, bit)
			}
			if bit != at%8 {
				continue
			}
			c, err := Salvage(t.Context(), path, filepath.Join(fastDir(t), testFile), func(store.Damage) {})
			if err != nil || c.Buckets["things"] != 20 {
				t.Errorf("byte %d, bit %d: salvaged %+v, %v", at-from, bit, c, err)
			}
		}
	}
}

// TestDamagedPlaces changes where each record of a page lies, its name's length
// and its own, in every way that one bit makes. The records are of one length,
// so that some changes lead to another whole record.
func TestDamagedPlaces(t *testing.T) {
	path := filepath.Join(fastDir(t), testFile)
	e := mustOpen(t, path, Options{})
	for i := range 18 {
		if err := commit(e, put(fmt.Sprintf("%02d", i), make([]byte, 64-pageElement-format.HeaderBytes-2))); err != nil {
			t.Fatal(err)
		}
	}
	e.Close()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	inUse, err := format.Walk(whole)
	if err != nil {
		t.Fatal(err)
	}
	cases := 0
	for id := 2; id < len(inUse); id++ {
		if !inUse[id] || id == topPages(whole)[0] {
			continue
		}
		count := len(leafElements(whole, id))
		for at := id*pageSize + pageHeader; at < id*pageSize+pageHeader+count*pageElement; at++ {
			for bit := range 8 {
				cases++
				data := bytes.Clone(whole)
				data[at] ^= 1 << bit
				if err := os.WriteFile(path, data, 0o600); err != nil {
					t.Fatal(err)
				}
				c, err := Check(t.Context(), path, func(store.Damage) {})
				if err != nil || c.Buckets["things"] != 18 {
					t.Fatalf("byte %d of page %d, bit %d: %d records, %v", at%pageSize, id, bit, c.Buckets["things"], err)
				}
			}
		}
	}
	if cases < 1000 {
		t.Errorf("only %d cases", cases)
	}
}
