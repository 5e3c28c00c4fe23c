package bolt

import (
	"context"
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/skiff-sh/skiff/internal/store"
)

// Check implements store.Engine. It looks at what is on disk.
func (e *Engine) Check(ctx context.Context, fn func(store.Damage)) error {
	err := e.view(func(tx *bbolt.Tx) error {
		return eachBucket(tx, func(bucket string, b *bbolt.Bucket) error {
			var have tally
			err := b.ForEach(func(name, record []byte) error {
				key := store.Key{Bucket: bucket, Name: string(name)}
				h, err := verifyRecord(key, record)
				if err != nil {
					fn(store.Damage{Key: key, Reason: err.Error()})
				}
				have = have.add(h)
				return ctx.Err()
			})
			if err == nil && have != tally(b.Sequence()) {
				fn(store.Damage{Key: store.Key{Bucket: bucket}, Reason: fmt.Sprintf("it holds %d records or others than the %d it should",
					have.count(), tally(b.Sequence()).count())})
			}
			return err
		})
	})
	if err != nil {
		return fmt.Errorf("check store: %w", err)
	}
	return nil
}
