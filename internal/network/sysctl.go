package network

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// How a link looks at where packets come from (rp_filter).
const (
	Strict = "1" // only by the link that leads back to their source
	Loose  = "2" // by any, if something leads back; on a link without addresses it is strict
)

// PrepareLink sets a link of ours up to forward, before it comes up. It needs
// no IPv6 chatter, and who is behind it is no router, whatever it says: who
// believed it would send the machine's own packets there.
func PrepareLink(link, rpFilter string) error {
	for _, s := range []struct{ name, value string }{
		{"forwarding", "1"}, {"send_redirects", "0"}, {"rp_filter", rpFilter}, {"accept_redirects", "0"},
	} {
		if err := SetSysctl("net/ipv4/conf/"+link+"/"+s.name, s.value); err != nil {
			return err
		}
	}
	for _, s := range []struct{ name, value string }{
		{"addr_gen_mode", "1"}, {"accept_ra", "0"}, {"accept_redirects", "0"},
	} {
		err := SetSysctl("net/ipv6/conf/"+link+"/"+s.name, s.value)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a kernel without IPv6
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// SetSysctl writes only what differs: some settings reset others when written.
func SetSysctl(name, value string) error {
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
