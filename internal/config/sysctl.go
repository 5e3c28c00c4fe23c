package config

import (
	"fmt"
	"strings"

	"k8s.io/component-helpers/node/util/sysctl"
)

// unsafeSysctls is the name of the kubelet's argument.
const unsafeSysctls = "allowed-unsafe-sysctls"

// sysctlsInto reads names of settings of the kernel, or prefixes with "*". Only
// those can be allowed that are a Pod's own.
func sysctlsInto(list *[]string) func(string) error {
	return func(text string) error {
		*list = nil
		for name := range strings.SplitSeq(text, ",") {
			if name == "" {
				continue
			}
			if space, _, _ := sysctl.GetNamespace(name); space == sysctl.UnknownNamespace {
				return fmt.Errorf("the sysctls %q are not known to be namespaced", name)
			}
			*list = append(*list, name)
		}
		return nil
	}
}
