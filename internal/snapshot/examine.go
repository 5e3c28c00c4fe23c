package snapshot

import (
	"context"

	"github.com/skiff-sh/skiff/internal/store"
	"github.com/skiff-sh/skiff/internal/store/bolt"
)

// examine reads every record of a store and returns its revision and how many
// objects it has of each resource.
func examine(ctx context.Context, path string) (store.Revision, map[string]int, error) {
	e, err := bolt.Open(path, bolt.Options{})
	if err != nil {
		return 0, nil, err
	}
	defer e.Close()
	buckets, err := e.Buckets(ctx)
	if err != nil {
		return 0, nil, err
	}
	objects := map[string]int{}
	for _, bucket := range buckets {
		err := e.Scan(ctx, bucket, func(store.Record) error {
			objects[bucket]++
			return nil
		})
		if err != nil {
			return 0, nil, err
		}
	}
	return e.Revision(), objects, nil
}
