package config

import (
	"slices"
	"testing"
)

func TestAllowedUnsafeSysctls(t *testing.T) {
	k, err := ParseKubelet([]string{"allowed-unsafe-sysctls=kernel.msg*", "net.core.somaxconn", "minimum-image-ttl-duration=1m"})
	if err != nil || !slices.Equal(k.AllowedUnsafeSysctls, []string{"kernel.msg*", "net.core.somaxconn"}) {
		t.Errorf("%q, %v", k.AllowedUnsafeSysctls, err)
	}
	const want = `kubelet-arg: allowed-unsafe-sysctls: the sysctls "kernel.panic" are not known to be namespaced`
	if _, err := ParseKubelet([]string{"allowed-unsafe-sysctls=kernel.panic"}); err == nil || err.Error() != want {
		t.Errorf("the node's own: %v", err)
	}
}
