package volume

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

func TestNFSOptions(t *testing.T) {
	for _, c := range []struct{ server, version, kind, options string }{
		{"192.0.2.1", "4.2", "nfs4", "vers=4.2,proto=tcp,addr=192.0.2.1,clientaddr=0.0.0.0"},
		{"2001:db8::1", "4.0", "nfs4", "vers=4.0,proto=tcp6,addr=2001:db8::1,clientaddr=::"},
		{"192.0.2.1", "3", "nfs", "vers=3,proto=tcp,addr=192.0.2.1,nolock,mountproto=tcp,mountaddr=192.0.2.1"},
		{"2001:db8::1", "3", "nfs", "vers=3,proto=tcp6,addr=2001:db8::1,nolock,mountproto=tcp6,mountaddr=2001:db8::1"},
	} {
		kind, options := nfsOptions(netip.MustParseAddr(c.server), c.version)
		if kind != c.kind || options != c.options {
			t.Errorf("%s, version %s: %s %s", c.server, c.version, kind, options)
		}
	}
	for server, want := range map[string]string{"nas": "nas:/x", "2001:db8::1": "[2001:db8::1]:/x", "[2001:db8::1]": "[2001:db8::1]:/x"} {
		if got := nfsSource(&corev1.NFSVolumeSource{Server: server, Path: "/x"}); got != want {
			t.Errorf("source %s, want %s", got, want)
		}
	}
}

// What server and kernel say to each version decides which is tried next.
func TestNFS(t *testing.T) {
	for _, c := range []struct {
		name  string
		says  map[string]error // by version; nil: it is mounted
		tried []string
		err   string
	}{
		{"all new", nil, []string{"4.2"}, ""},
		{"older", map[string]error{"4.2": unix.EPROTONOSUPPORT, "4.1": unix.EINVAL}, []string{"4.2", "4.1", "4.0"}, ""},
		{
			"version 3 alone", map[string]error{"4.2": unix.EPROTONOSUPPORT, "4.1": unix.EPROTONOSUPPORT, "4.0": unix.EPROTONOSUPPORT},
			[]string{"4.2", "4.1", "4.0", "3"}, "",
		},
		{"no such export", map[string]error{"4.2": unix.ENOENT}, []string{"4.2"}, "mount failed: nas:/x by NFS 4.2: no such file or directory"},
		{
			"not for us, by version 3", map[string]error{"4.2": unix.EPROTONOSUPPORT, "4.1": unix.EPROTONOSUPPORT, "4.0": unix.EPROTONOSUPPORT, "3": unix.EACCES},
			[]string{"4.2", "4.1", "4.0", "3"}, "mount failed: nas:/x by NFS 3: permission denied",
		},
		{
			"none", map[string]error{"4.2": unix.EPROTONOSUPPORT, "4.1": unix.EPROTONOSUPPORT, "4.0": unix.EPROTONOSUPPORT, "3": unix.EPROTONOSUPPORT},
			[]string{"4.2", "4.1", "4.0", "3"}, "mount failed: nas:/x by NFS 4.2: protocol not supported",
		},
		{"a kernel without", map[string]error{"4.2": unix.ENODEV}, []string{"4.2"}, "mount failed: nas:/x: the kernel has no NFS: load its module nfs"},
	} {
		var tried []string
		err := negotiateNFS("nas:/x", func(version string) error {
			tried = append(tried, version)
			return c.says[version]
		})
		if !slices.Equal(tried, c.tried) || (err == nil) != (c.err == "") || err != nil && err.Error() != c.err {
			t.Errorf("%s: tried %s: %v", c.name, strings.Join(tried, ", "), err)
		}
	}
}
