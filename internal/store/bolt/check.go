package bolt

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/skiff-sh/skiff/internal/store"
	"github.com/skiff-sh/skiff/internal/store/bolt/format"
)

// checkSuffix begins what is behind the store's name in that of the copy which
// is looked at when something is wrong.
const checkSuffix = ".check-"

// Check implements store.Engine: it looks at what is on disk, in place. When
// something is wrong, a copy of the file tells exactly what is lost; where there
// is no room for one, what was seen in place has to do.
func (e *Engine) Check(ctx context.Context, fn func(store.Damage)) error {
	var wrong []store.Damage
	var copied string
	err := e.viewFile(func(f *os.File, tx *bbolt.Tx) (err error) {
		err = guard(func() (err error) {
			wrong, err = look(ctx, f, tx)
			return err
		})
		if ctx.Err() == nil && (err != nil || len(wrong) > 0) {
			copied = e.copyForCheck(ctx, tx)
		}
		return err
	})
	if copied != "" {
		defer os.Remove(copied)
		found := false
		_, failed := Check(ctx, copied, func(d store.Damage) {
			found = true
			fn(d)
		})
		if found && failed == nil {
			return nil
		}
	}
	for _, d := range wrong {
		fn(d)
	}
	if err != nil {
		return fmt.Errorf("check store: %w", err)
	}
	return nil
}

// copyForCheck writes what a transaction sees to a file, and returns its name; ""
// when it cannot.
func (e *Engine) copyForCheck(ctx context.Context, tx *bbolt.Tx) (name string) {
	f, err := os.CreateTemp(filepath.Dir(e.path), filepath.Base(e.path)+checkSuffix)
	if err != nil {
		return ""
	}
	defer f.Close()
	if _, err := tx.WriteTo(contextWriter{ctx, Spread(f)}); err != nil {
		os.Remove(f.Name())
		return ""
	}
	return f.Name()
}

// look reads all that a transaction sees: first the pages, over which bbolt would
// stumble or run in circles, then the records.
func look(ctx context.Context, f *os.File, tx *bbolt.Tx) (wrong []store.Damage, err error) {
	data, err := unix.Mmap(int(f.Fd()), 0, int(tx.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	err = guard(func() error { return format.WalkTree(data, uint64(tx.Cursor().Bucket().Root())) })
	unix.Munmap(data)
	if err != nil {
		return []store.Damage{{Reason: format.Reason(err)}}, nil
	}
	if _, err := verifyState(tx); err != nil {
		wrong = append(wrong, store.Damage{Reason: format.Reason(err)})
	}
	err = eachBucket(tx, func(bucket string, b *bbolt.Bucket) error {
		var have format.Tally
		err := b.ForEach(func(name, record []byte) error {
			key := store.Key{Bucket: bucket, Name: string(name)}
			h, err := format.VerifyRecord(key, record)
			if err != nil {
				wrong = append(wrong, store.Damage{Key: key, Reason: format.Reason(err)})
			}
			have = have.Add(h)
			return ctx.Err()
		})
		if want := format.Tally(b.Sequence()); err == nil && have != want {
			wrong = append(wrong, store.Damage{Key: store.Key{Bucket: bucket},
				Reason: fmt.Sprintf("it holds %d records or others than the %d it should", have.Count(), want.Count())})
		}
		return err
	})
	if err != nil {
		return wrong, err
	}
	if _, err := newKeyspace(tx).listed(); err != nil {
		wrong = append(wrong, store.Damage{Reason: format.Reason(err)})
	}
	return wrong, nil
}
