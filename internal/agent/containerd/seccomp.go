package containerd

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"

	"github.com/containerd/containerd/v2/contrib/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/skiff-sh/skiff/internal/agent"
)

// seccompProfile returns the filter of a container's system calls, nil for none.
func seccompProfile(c agent.Container, m machine) (*specs.LinuxSeccomp, error) {
	switch {
	case c.Privileged || c.Seccomp == "unconfined":
		return nil, nil
	case c.Seccomp == "":
		// The default profile allows more to those who hold a capability.
		granted := grantedCapabilities(false, c.CapAdd, c.CapDrop, m.capabilities)
		profile := seccomp.DefaultProfile(&specs.Spec{
			Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: granted}},
		})
		// Distributions build no kernel with x32, and compiling the rules for it
		// is a quarter of the work of starting a container.
		profile.Architectures = slices.DeleteFunc(profile.Architectures, func(a specs.Arch) bool { return a == specs.ArchX32 })
		return profile, nil
	}
	data, err := os.ReadFile(c.Seccomp)
	if err != nil {
		return nil, fmt.Errorf("cannot load seccomp profile %q: %w", c.Seccomp, err)
	}
	profile := new(specs.LinuxSeccomp)
	if err := json.Unmarshal(data, profile); err != nil {
		return nil, fmt.Errorf("decoding seccomp profile failed %q: %w", c.Seccomp, err)
	}
	return profile, nil
}
