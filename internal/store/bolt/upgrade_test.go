package bolt

import (
	"context"
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

// ancient is a format that never was: the state is the format and two revisions,
// a record its revision, "l" when it is lazy, and the value.
func ancient() map[byte]oldFormat {
	return map[byte]oldFormat{0: {
		progress: func(state []byte) (format.State, error) {
			return format.State{
				Revision: store.Revision(binary.BigEndian.Uint64(state[1:])),
				Reserved: store.Revision(binary.BigEndian.Uint64(state[9:])),
			}, nil
		},
		record: func(key store.Key, record []byte) (lazy bool, revision store.Revision, value []byte, err error) {
			if len(record) < 9 {
				return false, 0, nil, format.Damaged(store.Damage{Key: key, Reason: "it is short"})
			}
			return record[8] == 'l', store.Revision(binary.BigEndian.Uint64(record)), record[9:], nil
		},
	}}
}

// writeAncient makes a store of that format, stopped cleanly at revision 5000.
func writeAncient(t *testing.T, path string) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{PageSize: pageSize})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.Update(func(tx *bbolt.Tx) error {
		meta, err := tx.CreateBucket([]byte(format.MetaBucket))
		if err != nil {
			return err
		}
		state := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64([]byte{0}, 5000), 5000)
		if err := meta.Put([]byte(format.MetaState), state); err != nil {
			return err
		}
		for _, bucket := range []string{"empty", "things"} {
			if _, err := tx.CreateBucket([]byte(format.BucketPrefix + bucket)); err != nil {
				return err
			}
		}
		for i := range 3000 {
			record := binary.BigEndian.AppendUint64(nil, uint64(i+1))
			record = append(record, "dl"[i%2])
			record = append(record, make([]byte, 600)...)
			if err := tx.Bucket([]byte(format.BucketPrefix+"things")).Put([]byte(fmt.Sprintf("%04d", i)), record); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestUpgrade opens a store of an older format: as it is, and as it is found when
// an upgrade was cut off.
func TestUpgrade(t *testing.T) {
	for name, leave := range map[string]func(path string) error{
		"at rest": func(string) error { return nil },
		"cut off while it was copied": func(path string) error {
			if err := os.Mkdir(path+upgradeSuffix, 0o700); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(path+upgradeSuffix, "store.db"), []byte("half"), 0o600)
		},
		"cut off before it had the name": func(path string) error { return os.Link(path, path+formatSuffix+"0") },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), testFile)
			writeAncient(t, path)
			if err := leave(path); err != nil {
				t.Fatal(err)
			}
			old, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			e, err := open(path, Options{}, ancient())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { e.Close() })
			checkUpgraded(t, e)
			if kept, _ := os.ReadFile(path + formatSuffix + "0"); string(kept) != string(old) {
				t.Errorf("the old file is kept with %d bytes, it had %d", len(kept), len(old))
			}
			checkUpgraded(t, crashed(t, e)) // without what reads the old format
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
			if files, _ := filepath.Glob(path + "*"); len(files) != 2 {
				t.Errorf("after a clean stop there is %v", files)
			}
			checkUpgraded(t, mustOpen(t, path, Options{}))
		})
	}
}

func checkUpgraded(t *testing.T, e *Engine) {
	t.Helper()
	n := 0
	err := e.Scan(context.Background(), "things", func(r store.Record) error {
		if r.Key.Name != fmt.Sprintf("%04d", n) || r.Revision != store.Revision(n+1) || len(r.Value) != 600 {
			return fmt.Errorf("record %d is %s@%d with %d bytes", n, r.Key, r.Revision, len(r.Value))
		}
		n++
		return nil
	})
	buckets, _ := e.Buckets(context.Background())
	if err != nil || n != 3000 || fmt.Sprint(buckets) != "[empty things]" || e.Revision() != 5000 {
		t.Errorf("%d records in %v at revision %d: %v", n, buckets, e.Revision(), err)
	}
	keys := 0
	err = e.view(func(tx *bbolt.Tx) error {
		listed, err := newKeyspace(tx).listed()
		keys = len(listed)
		return err
	})
	if err != nil || keys != 1500 {
		t.Errorf("%d are listed as lazy, want 1500: %v", keys, err)
	}
}

// TestUpgradeDamage: when the old file cannot be read, it stays what it is.
func TestUpgradeDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), testFile)
	writeAncient(t, path)
	behind(t, path, func(b *bbolt.Bucket) error { return b.Put([]byte("0007"), []byte("x")) })
	_, err := open(path, Options{}, ancient())
	if !errors.Is(err, store.ErrDamaged) || !strings.Contains(err.Error(), "upgrade it from format 0 to 1") {
		t.Errorf("got %v", err)
	}
	if files, _ := filepath.Glob(path + "*"); len(files) != 2 {
		t.Errorf("left behind: %v", files)
	}
}
