package snapshot

import (
	"context"
	"fmt"

	"github.com/skiff-sh/skiff/internal/store"
	"github.com/skiff-sh/skiff/internal/store/bolt"
	"github.com/skiff-sh/skiff/internal/store/bolt/format"
)

// examine reads every record of a store and returns what it holds. A snapshot of
// what is damaged would be found out when it is needed.
func examine(ctx context.Context, path string) (format.Contents, error) {
	var first store.Damage
	damages := 0
	contents, err := bolt.Check(ctx, path, func(d store.Damage) {
		if damages == 0 {
			first = d
		}
		damages++
	})
	if err != nil {
		return contents, err
	}
	if damages > 0 {
		return contents, fmt.Errorf("%w in %d places, one being %s: run `skiff store check` to see all, then `skiff snapshot restore` or `skiff store salvage`",
			store.ErrDamaged, damages, first)
	}
	return contents, nil
}
