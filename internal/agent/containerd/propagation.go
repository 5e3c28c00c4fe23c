package containerd

import (
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/mount"

	"github.com/skiff-sh/skiff/internal/agent"
)

// checkPropagation refuses mounts that ask for more than their place on the
// host gives: what is mounted there must reach its copies, or come from them.
func checkPropagation(mounts []agent.Mount, lookup func(string) (mount.Info, error)) error {
	for _, m := range mounts {
		if m.Propagation != "rshared" && m.Propagation != "rslave" {
			continue
		}
		at, err := lookup(m.Source)
		if err != nil {
			return err
		}
		is := func(kind string) bool {
			return slices.ContainsFunc(strings.Fields(at.Optional), func(o string) bool { return strings.HasPrefix(o, kind+":") })
		}
		switch {
		case is("shared"), m.Propagation == "rslave" && is("master"):
		case m.Propagation == "rslave":
			return fmt.Errorf("path %q is mounted on %q but it is not a shared or slave mount", m.Source, at.Mountpoint)
		default:
			return fmt.Errorf("path %q is mounted on %q but it is not a shared mount", m.Source, at.Mountpoint)
		}
	}
	return nil
}
