package containerd

import (
	"testing"

	"github.com/containerd/containerd/v2/core/mount"

	"github.com/skiff-sh/skiff/internal/agent"
)

func TestPropagationIsChecked(t *testing.T) {
	for _, c := range []struct{ propagation, optional, want string }{
		{"private", "", ""},
		{"rshared", "shared:1", ""},
		{"rshared", "shared:1 master:2", ""},
		{"rshared", "master:2", `path "/v" is mounted on "/" but it is not a shared mount`},
		{"rslave", "master:2", ""},
		{"rslave", "shared:1", ""},
		{"rslave", "", `path "/v" is mounted on "/" but it is not a shared or slave mount`},
	} {
		got := ""
		err := checkPropagation([]agent.Mount{{Source: "/v", Propagation: c.propagation}}, func(string) (mount.Info, error) {
			return mount.Info{Mountpoint: "/", Optional: c.optional}, nil
		})
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s on %q: %q, want %q", c.propagation, c.optional, got, c.want)
		}
	}
}
