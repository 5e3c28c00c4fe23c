package snapshot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
)

// ErrUnknown is the error for a name that no snapshot of a place has.
var ErrUnknown = errors.New("there is no snapshot")

// Place is where snapshots are kept.
type Place interface {
	// List returns the snapshots, in the order of their names' numbers.
	List(ctx context.Context) ([]File, error)
	// Open returns the contents of the named one, which the caller closes.
	Open(ctx context.Context, name string) (io.ReadCloser, error)
	// Remove removes the named one.
	Remove(ctx context.Context, name string) error
}

// Prune removes all but the newest snapshots of a base (see Base) from a place,
// at least one of which stays whatever is asked for; 0 keeps all. The newest
// are those with the highest numbers, whatever the clock says. It returns the
// names that it removed.
func Prune(ctx context.Context, place Place, base string, keep int) ([]string, error) {
	if keep <= 0 {
		return nil, nil
	}
	files, err := place.List(ctx)
	if err != nil {
		return nil, err
	}
	files = slices.DeleteFunc(files, func(f File) bool {
		other, _, ok := number(f.Name)
		return !ok || other != base
	})
	var removed []string
	for len(files) > keep {
		if err := place.Remove(ctx, files[0].Name); err != nil {
			return removed, err
		}
		removed, files = append(removed, files[0].Name), files[1:]
	}
	return removed, nil
}

// byNumber sorts the newest last.
func byNumber(files []File) {
	slices.SortFunc(files, func(a, b File) int {
		_, m, _ := number(a.Name)
		_, n, _ := number(b.Name)
		return cmp.Or(cmp.Compare(m, n), cmp.Compare(a.Name, b.Name))
	})
}

// find returns the name in the list that a person means: the whole of it, or
// without the endings.
func find(files []File, name string) (string, error) {
	for _, f := range files {
		if f.Name == name {
			return name, nil
		}
	}
	for _, f := range files {
		if base, n, _ := number(f.Name); fmt.Sprintf("%s-%d", base, n) == name {
			return f.Name, nil
		}
	}
	return "", fmt.Errorf("%w %q: see skiff snapshot ls for those that are there", ErrUnknown, name)
}
