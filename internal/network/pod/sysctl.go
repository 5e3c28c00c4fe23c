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
)

// setHostSysctls makes the machine a router that sends no redirects: a Pod
// that reaches itself through a Service leaves by the link it came from.
func setHostSysctls() error {
	want := []struct{ name, value string }{
		{"net/ipv4/ip_forward", "1"},
		{"net/ipv4/conf/all/send_redirects", "0"},
	}
	for _, s := range want {
		if err := setSysctl(s.name, s.value); err != nil {
			return err
		}
	}
	return raiseConntrackMax(max(32768*runtime.NumCPU(), 131072))
}

// setLinkSysctls prepares a Pod's link before it comes up. Strict reverse path
// filtering means that a Pod speaks with its own addresses only.
func setLinkSysctls(link string) error {
	base := "net/ipv4/conf/" + link + "/"
	for _, s := range []struct{ name, value string }{
		{"forwarding", "1"}, {"send_redirects", "0"}, {"rp_filter", "1"}, {"accept_redirects", "0"},
	} {
		if err := setSysctl(base+s.name, s.value); err != nil {
			return err
		}
	}
	// The link needs no address of its own, and no IPv6 chatter when it comes
	// up. A Pod is no router, whatever it says: who believed it would send the
	// machine's own packets there. The kernel may have no IPv6.
	for _, s := range []struct{ name, value string }{
		{"addr_gen_mode", "1"}, {"accept_ra", "0"}, {"accept_redirects", "0"},
	} {
		err := setSysctl("net/ipv6/conf/"+link+"/"+s.name, s.value)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
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
	err = setSysctl(name, strconv.Itoa(want))
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EINVAL) {
		return nil
	}
	return err
}

// setSysctl writes only what differs: some settings reset others when written.
func setSysctl(name, value string) error {
	path := "/proc/sys/" + name
	have, err := os.ReadFile(path)
	if err == nil && strings.TrimSpace(string(have)) == value {
		return nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("set sysctl %s to %s: %w; set it before skiff starts if /proc/sys is read-only here",
			strings.ReplaceAll(name, "/", "."), value, err)
	}
	_, err = f.WriteString(value)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("set sysctl %s to %s: %w", strings.ReplaceAll(name, "/", "."), value, err)
	}
	return nil
}
