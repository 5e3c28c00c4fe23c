package volume

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

// nfsPort is where servers of version 4 are; those of version 3 that are worth
// talking to are there too.
const nfsPort = "2049"

// nfsPatience is how long a server may take to be found. The kernel would wait for
// minutes.
const nfsPatience = 10 * time.Second

// nfsVersions are tried in this order: the newest that both sides know.
var nfsVersions = [...]string{"4.2", "4.1", "4.0", "3"}

// mountNFS mounts an export at dir, unless one is there. It waits for the server no
// longer than nfsPatience, and for its answers as long as the kernel does.
func mountNFS(ctx context.Context, dir string, s *corev1.NFSVolumeSource) error {
	// Nothing of the export itself is looked at: its server may be gone.
	there, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(dir))
	if err != nil || len(there) > 0 {
		return err
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("make volume directory: %w", err)
	}
	server, err := findNFS(ctx, s.Server)
	if err != nil {
		return fmt.Errorf("mount failed: NFS server %s: %w", s.Server, err)
	}
	flags := uintptr(0)
	if s.ReadOnly {
		flags = unix.MS_RDONLY
	}
	return negotiateNFS(nfsSource(s), func(version string) error {
		kind, options := nfsOptions(server, version)
		return unix.Mount(nfsSource(s), dir, kind, flags, options)
	})
}

// negotiateNFS mounts with the first version that goes. Where none does, the error
// is that of the newest one which was not just unknown.
func negotiateNFS(source string, mount func(version string) error) error {
	var told error
	for _, version := range nfsVersions {
		err := mount(version)
		if err == nil {
			return nil
		}
		unknown := errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EINVAL)
		if told == nil || !unknown {
			told = fmt.Errorf("mount failed: %s by NFS %s: %w", source, version, err)
		}
		switch {
		case errors.Is(err, unix.ENODEV):
			return fmt.Errorf("mount failed: %s: the kernel has no NFS: load its module nfs", source)
		case !unknown:
			return told
		}
	}
	return told
}

// nfsOptions are what the kernel wants to be told, with the type of the file system. As
// with other kubelets an application waits for a server that is away, and loses nothing;
// a signal that kills ends the wait, and the mount is taken away without the server.
func nfsOptions(server netip.Addr, version string) (kind, options string) {
	list := []string{"vers=" + version, "proto=tcp", "addr=" + server.String()}
	if server.Is6() {
		list[1] = "proto=tcp6"
	}
	if version == "3" {
		// Nothing here tells servers of locks that a reboot has ended.
		list = append(list, "nolock", "mountproto="+strings.TrimPrefix(list[1], "proto="), "mountaddr="+server.String())
		return "nfs", strings.Join(list, ",")
	}
	callback := "0.0.0.0" // none
	if server.Is6() {
		callback = "::"
	}
	return "nfs4", strings.Join(append(list, "clientaddr="+callback), ",")
}

// nfsSource is the export's name, which the table of mounts shows.
func nfsSource(s *corev1.NFSVolumeSource) string {
	if strings.Contains(s.Server, ":") && !strings.HasPrefix(s.Server, "[") {
		return "[" + s.Server + "]:" + s.Path
	}
	return s.Server + ":" + s.Path
}

// findNFS returns the first address of the server that takes connections.
func findNFS(ctx context.Context, server string) (netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, nfsPatience)
	defer cancel()
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", strings.Trim(server, "[]"))
	if err != nil {
		return netip.Addr{}, err
	}
	var errs []error
	for _, address := range addresses {
		connection, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(address.Unmap().String(), nfsPort))
		if err == nil {
			return address.Unmap(), connection.Close()
		}
		errs = append(errs, err)
	}
	return netip.Addr{}, errors.Join(errs...)
}
