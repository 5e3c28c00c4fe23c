package cgroup

import "path/filepath"

// Whole reads what all Pods use together; the limit is what Enforce gave them.
func (t *Tree) Whole() (Usage, error) {
	if t.unified != "" {
		return readUnified(filepath.Join(t.unified, t.root))
	}
	return t.readV1(t.root)
}
