package format

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/skiff-sh/skiff/internal/store"
	"go.etcd.io/bbolt"
)

// TestDamagedPlace: when a bucket's name seems to be a byte shorter than it is, and
// what follows is a page that the file has, the tally tells.
func TestDamagedPlace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	writeFile(t, path)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := NewReader(f, 1<<40, func(store.Damage, bool) {})
	now, err := r.readRoot(t.Context(), r.slots()[newest(r.slots())].root)
	if err != nil || len(now.top.notes) > 0 {
		t.Fatal(now.top.notes, err)
	}
	e := &now.top.entries[0]
	if string(e.name) != "b/things" {
		t.Fatalf("the first bucket is %q", e.name)
	}
	e.in.data[pageHeader+8]--
	var ok bool
	if *e, ok = entryAt(e.in, 0); !ok || string(e.name) != "b/thing" || !e.plausible(r.pages) {
		t.Fatalf("%q would not be taken for a bucket", e.name)
	}
	if !now.top.correct(now.state.Buckets) || string(e.name) != "b/things" || now.top.tally() != now.state.Buckets {
		t.Errorf("the bucket is %q", e.name)
	}
}

// writeFile makes a file as the engine does, with so many records that they
// have pages of their own.
func writeFile(t *testing.T, path string) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{PageSize: PageSize, NoFreelistSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.Update(func(tx *bbolt.Tx) error {
		var all Tally
		create := func(name string, holds Tally) *bbolt.Bucket {
			b, err := tx.CreateBucket([]byte(name))
			if err != nil {
				t.Fatal(err)
			}
			all = all.Plus(TallyBucket([]byte(name), holds))
			if err := b.SetSequence(uint64(holds)); err != nil {
				t.Fatal(err)
			}
			return b
		}
		records, holds := map[string][]byte{}, Tally(0)
		for i := range 20 {
			key := store.Key{Bucket: "things", Name: fmt.Sprint(i)}
			record := EncodeRecord(key, 0, 1, make([]byte, 700))
			h, err := ReadHeader(key, record)
			if err != nil {
				return err
			}
			records[key.Name], holds = record, holds.Add(h)
		}
		things := create(BucketPrefix+"things", holds)
		for name, record := range records {
			if err := things.Put([]byte(name), record); err != nil {
				return err
			}
		}
		create(LazyBucket, 0)
		meta := create(MetaBucket, 0)
		return meta.Put([]byte(MetaState), State{Revision: 1, Reserved: 1, Buckets: all, Tx: uint64(tx.ID())}.Encode())
	})
	if err != nil {
		t.Fatal(err)
	}
}
