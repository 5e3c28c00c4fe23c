package pod

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/skiff-sh/skiff/internal/network"
)

// setHostSysctls makes the machine a router that sends no redirects: a Pod
// that reaches itself through a Service leaves by the link it came from.
func setHostSysctls() error {
	for _, s := range []struct{ name, value string }{
		{"net/ipv4/ip_forward", "1"}, {"net/ipv4/conf/all/send_redirects", "0"},
	} {
		if err := network.SetSysctl(s.name, s.value); err != nil {
			return err
		}
	}
	return raiseConntrackMax(max(32768*runtime.NumCPU(), 131072))
}

// raiseConntrackMax raises the table's limit, never lowers it. Only the first
// network namespace may; elsewhere the machine's limit holds.
func raiseConntrackMax(want int) error {
	const name = "net/netfilter/nf_conntrack_max"
	b, err := os.ReadFile("/proc/sys/" + name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read sysctl %s: %w", name, err)
	}
	if have, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil && have >= want {
		return nil
	}
	err = network.SetSysctl(name, strconv.Itoa(want))
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EINVAL) {
		return nil
	}
	return err
}
