package state

import "github.com/skiff-sh/skiff/internal/store"

// claimPrefix marks the buckets of allocation tables.
const claimPrefix = "!"

// Claimed returns who holds a name of an allocation table.
func (s *State) Claimed(table, name string) (owner string, ok bool) {
	tree := s.world.Load().claims[table]
	if tree == nil {
		return "", false
	}
	return tree.Get(name)
}

// Claims calls fn for every taken name of a table in byte order until it
// returns false.
func (s *State) Claims(table string, fn func(name, owner string) bool) {
	if tree := s.world.Load().claims[table]; tree != nil {
		tree.Scan(fn)
	}
}

// applyClaim updates the committer's tree.
func (s *State) applyClaim(table string, change *store.Change) {
	tree := s.claims[table]
	if tree == nil {
		tree = &claimTree{}
		s.claims[table] = tree
	}
	switch change.Action {
	case store.Put:
		tree.Set(change.Key.Name, string(change.Value))
	case store.Delete:
		tree.Delete(change.Key.Name)
	}
}
