package bolt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/skiff-sh/skiff/internal/store"
	"github.com/skiff-sh/skiff/internal/store/bolt/format"
)

// TestPastBuckets has the pages that lead to the tree of buckets lead to each page
// of the past in turn. Each of the past is consistent in itself; none is served,
// and all that is there now is found.
func TestPastBuckets(t *testing.T) {
	data, past := damageStore(t, "many")
	o := newOracle(t, data, past)
	dir := fastDir(t)
	o.open(t, dir)
	root := o.tops[0] * pageSize
	served, cases := 0, 0
	for i, now := range o.tops[1:] {
		for page := 2; page < damagePages; page++ {
			if page == now {
				continue
			}
			changed := bytes.Clone(data)
			binary.NativeEndian.PutUint64(changed[root+pageHeader+pageElement*i+8:], uint64(page))
			if inUse, err := format.Walk(changed); err == nil && inUse != nil {
				served++ // bbolt finds nothing wrong
			}
			s, err := examine(dir, changed, true)
			if err == nil {
				err = o.judge(s, root)
			}
			if err == nil && (s.openErr == nil || s.readErr == nil) {
				err = errors.New("it opened")
			}
			if cases++; err != nil {
				t.Errorf("page %d instead of %d: %v", page, now, err)
			}
		}
	}
	if served == 0 {
		t.Errorf("none of %d cases is one that only the digest can tell", cases)
	}
}

// TestPastState: a whole tree of buckets of the past in the place of the last
// one's is told by the transaction's number.
func TestPastState(t *testing.T) {
	data := stored(t, true)
	last, before := metaPages(data)
	at := last.root * pageSize
	copy(data[at:at+pageSize], data[before.root*pageSize:])
	binary.NativeEndian.PutUint64(data[at:], last.root)
	path := written(t, data)
	if _, err := Open(path, Options{}); !errors.Is(err, store.ErrDamaged) || !strings.Contains(err.Error(), "transaction") {
		t.Errorf("opened: %v", err)
	}
	if told := inspect(t, path); len(told) != 1 || !strings.HasSuffix(told[0], "what was written after that is lost") {
		t.Errorf("check told %q", told)
	}
}

// TestDamagedSequence changes each byte of what each bucket says that it holds.
func TestDamagedSequence(t *testing.T) {
	whole := stored(t, true)
	buckets := leafElements(whole, topPages(whole)[0])
	if len(buckets) != 3 {
		t.Fatalf("%d buckets", len(buckets))
	}
	for _, b := range buckets {
		for n := range 8 {
			data := bytes.Clone(whole)
			data[b.at+len(b.name)+8+n] ^= byte(1 + 40*n)
			path := written(t, data)
			if told := inspect(t, path); len(told) != 1 || !strings.HasPrefix(told[0], "what the bucket ") || !strings.HasSuffix(told[0], "nothing is lost by that") {
				t.Errorf("%q, byte %d: check told %q", b.name, n, told)
			}
			if _, err := Open(path, Options{}); !errors.Is(err, store.ErrDamaged) {
				t.Errorf("%q, byte %d: opened: %v", b.name, n, err)
			}
			c, err := Salvage(t.Context(), path, filepath.Join(t.TempDir(), testFile), func(store.Damage) {})
			if err != nil || c.Buckets["things"] != 20 {
				t.Errorf("%q, byte %d: salvaged %+v, %v", b.name, n, c, err)
			}
		}
	}
}

// TestDamagedName changes the names of buckets to those of others: what each holds
// tells which of the two it was.
func TestDamagedName(t *testing.T) {
	path := filepath.Join(t.TempDir(), testFile)
	e := mustOpen(t, path, Options{})
	for i := range 10 {
		key := store.Key{Bucket: fmt.Sprint("bucket-", i), Name: "a"}
		if err := commit(e, store.Op{Key: key, Value: []byte{byte(i)}}); err != nil {
			t.Fatal(err)
		}
	}
	e.Close()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	root := topPages(whole)[0] * pageSize
	for i := range 10 {
		at := root + bytes.Index(whole[root:root+pageSize], fmt.Append(nil, "b/bucket-", i)) + len("b/bucket-")
		for digit := range 10 {
			if digit == i {
				continue
			}
			data := bytes.Clone(whole)
			data[at] = '0' + byte(digit)
			path := written(t, data)
			var told []string
			c, err := Check(t.Context(), path, func(d store.Damage) { told = append(told, d.String()) })
			if err != nil || len(c.Buckets) != 10 || c.Buckets[fmt.Sprint("bucket-", i)] != 1 || c.Buckets[fmt.Sprint("bucket-", digit)] != 1 {
				t.Errorf("%d is %d: %v, %v; told %q", i, digit, c.Buckets, err, told)
			}
			if _, err := Open(path, Options{}); !errors.Is(err, store.ErrDamaged) {
				t.Errorf("%d is %d: opened: %v", i, digit, err)
			}
		}
	}
}

// TestLastOfPage changes where the last bucket of a page lies and where the records
// in it do: the one must not be put right so that it fits the other.
func TestLastOfPage(t *testing.T) {
	data, past := damageStore(t, "many")
	o := newOracle(t, data, past)
	dir := fastDir(t)
	o.open(t, dir)
	cases := 0
	for _, id := range o.tops[1:] {
		all := leafElements(data, id)
		last := all[len(all)-1]
		if len(last.value) < bucketHeader+pageHeader+3*pageElement {
			continue
		}
		inner := last.at + len(last.name) + bucketHeader + pageHeader
		for _, from := range []int{last.place, inner, inner + pageElement, inner + 2*pageElement} {
			for at := from + 4; at < from+pageElement; at++ {
				for bit := at % 3; bit < 8; bit += 3 {
					changed := bytes.Clone(data)
					changed[at] ^= 1 << bit
					s, err := examine(dir, changed, false)
					if err == nil {
						err = o.judge(s, at)
					}
					if cases++; err != nil {
						t.Errorf("byte %d of page %d, bit %d: %.500v", at%pageSize, id, bit, err)
					}
				}
			}
		}
	}
	if cases < 500 {
		t.Errorf("only %d cases", cases)
	}
}

// TestCopyWithoutMeta: the second meta page of a copy leads to the same state as
// the first under an older number. When the first is damaged the state says which
// it is, and when there is a later one that is not forgotten.
func TestCopyWithoutMeta(t *testing.T) {
	for _, further := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), testFile)
		e := mustOpen(t, path, Options{})
		// The second time the copy's number has the other parity.
		for i := range 2 {
			if err := commit(e, put(fmt.Sprint(i), nil)); err != nil {
				t.Fatal(err)
			}
			var copied bytes.Buffer
			if err := e.Snapshot(t.Context(), &copied); err != nil {
				t.Fatal(err)
			}
			path := written(t, copied.Bytes())
			want := i + 1
			if further {
				c := mustOpen(t, path, Options{})
				for range 3 {
					if err := commit(c, put(fmt.Sprint(want), nil)); err != nil {
						t.Fatal(err)
					}
					want++
				}
				c.Close()
			}
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			last, _ := metaPages(data)
			clear(data[last.slot*pageSize:][:pageSize])
			path = written(t, data)
			if told := inspect(t, path); len(told) == 0 || !strings.HasSuffix(told[0], "is damaged") {
				t.Errorf("check told %q", told)
			}
			again, err := Open(path, Options{})
			if err != nil {
				t.Fatal(err)
			}
			if got := len(names(t, again)); got != want {
				t.Errorf("further %t, %d: %d records, want %d", further, i, got, want)
			}
			again.Close()
			if told := inspect(t, path); len(told) > 0 {
				t.Errorf("after it was opened, the check told %q", told)
			}
		}
	}
}

// TestOneNumberTwice: a transaction that was cut off and the one that came instead
// have the same number. With the meta page of the second gone, neither is served.
func TestOneNumberTwice(t *testing.T) {
	path := filepath.Join(t.TempDir(), testFile)
	e := mustOpen(t, path, Options{})
	if err := commit(e, put("a", nil)); err != nil {
		t.Fatal(err)
	}
	e.Close()
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var root [2][]byte
	var data []byte
	for i := range root {
		e := mustOpen(t, written(t, before), Options{})
		if err := commit(e, put(fmt.Sprint("b", i), nil)); err != nil {
			t.Fatal(err)
		}
		if data, err = os.ReadFile(e.path); err != nil {
			t.Fatal(err)
		}
		at := topPages(data)[0] * pageSize
		root[i] = bytes.Clone(data[at : at+pageSize])
	}
	last, earlier := metaPages(data)
	for other, twice := range map[*[]byte]bool{&root[0]: true, &root[1]: false} {
		changed := bytes.Clone(data)
		clear(changed[last.slot*pageSize:][:pageSize])
		free := max(last.high, earlier.high)
		binary.NativeEndian.PutUint64(*other, free)
		changed = append(changed[:free*pageSize], *other...)
		path := written(t, changed)
		if told := inspect(t, path); len(told) != 2 || strings.HasSuffix(told[1], "nothing is lost by that") == twice {
			t.Errorf("twice %t: check told %q", twice, told)
		}
		if e, err := Open(path, Options{}); twice != errors.Is(err, store.ErrDamaged) || !twice && err != nil {
			t.Errorf("twice %t: opened: %v", twice, err)
		} else if err == nil {
			e.Close()
		}
	}
}

// TestTallyOfBuckets: what the commits make of it one by one is what the file has.
func TestTallyOfBuckets(t *testing.T) {
	path := filepath.Join(fastDir(t), testFile)
	e := mustOpen(t, path, Options{NoSync: true})
	seen := map[format.Tally]bool{}
	for i := range 60 {
		op := store.Op{Key: store.Key{Bucket: fmt.Sprint("bucket-", i*7%20), Name: fmt.Sprint(i % 9)}, Expect: store.Any}
		if i%5 == 4 {
			op = lazily(op)
		}
		if i%3 == 2 && i > 20 {
			op.Key = store.Key{Bucket: fmt.Sprint("bucket-", (i-1)*7%20), Name: fmt.Sprint((i - 1) % 9)}
			op.Action = store.Delete
		}
		if err := commit(e, op); err != nil {
			t.Fatal(err)
		}
		err := e.view(func(tx *bbolt.Tx) error {
			p, err := verifyState(tx)
			seen[p.Buckets] = true
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(seen) < 30 {
		t.Errorf("only %d tallies", len(seen))
	}
	before := everything(t, e)
	if err := e.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := e.view(func(tx *bbolt.Tx) error { _, err := verifyState(tx); return err }); err != nil {
		t.Error(err)
	}
	if after := everything(t, e); after != before {
		t.Errorf("compacted to %s, want %s", after, before)
	}
	if err := commit(e, put("after", nil)); err != nil {
		t.Fatal(err)
	}
	before = everything(t, e)
	e.Close()
	if after := everything(t, mustOpen(t, path, Options{})); after != before {
		t.Errorf("after the compacted one was opened again: %s, want %s", after, before)
	}
}
