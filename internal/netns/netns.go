// Package netns makes the namespaces of Pods and keeps them alive without a
// process in them: each is pinned by a bind mount on a path of its own, and
// whoever knows the path can enter it.
//
// Create, CreateIPC and CreateUTS make and pin one, Spares makes some before they
// are asked for, Remove undoes any of them, Do runs a function inside a network
// namespace. All are idempotent. A thread
// that was inside a namespace either comes back or dies with its goroutine:
// none ever returns to the scheduler in the wrong place. The package knows
// nothing of Pods and never starts a process.
package netns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// nsfsMagic is the file system type of a namespace handle (linux/magic.h).
const nsfsMagic = 0x6e736673

// kind is one sort of namespace: its clone flag, its name below
// /proc/thread-self/ns and what a new one needs before anyone enters it.
type kind struct {
	flag  int
	name  string
	setup func() error
}

// Create makes a network namespace with its loopback up and pins it at path,
// making the directory if need be. If a namespace is pinned there already it
// is kept; a file left by a pin that is gone (after a reboot) is reused.
func Create(path string) error { return create(path, network()) }

// CreateIPC makes an IPC namespace and pins it at path, as Create does.
func CreateIPC(path string) error { return create(path, ipc()) }

func network() kind { return kind{unix.CLONE_NEWNET, "net", loopbackUp} }
func ipc() kind     { return kind{unix.CLONE_NEWIPC, "ipc", nil} }

// CreateUTS makes a UTS namespace with the host name and pins it at path, as
// Create does.
func CreateUTS(path, hostname string) error {
	return create(path, kind{unix.CLONE_NEWUTS, "uts", func() error {
		if err := unix.Sethostname([]byte(hostname)); err != nil {
			return fmt.Errorf("set host name %q: %w", hostname, err)
		}
		return nil
	}})
}

// Exists says whether a namespace is pinned at path.
func Exists(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && int64(st.Type) == nsfsMagic
}

// Remove unpins what is pinned at path and removes the file. The namespace
// ends with its last process or descriptor. A path that does not exist is no
// error.
func Remove(path string) error {
	for {
		err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if err == nil {
			continue // pins may be stacked
		}
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			break
		}
		return fmt.Errorf("unpin namespace %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("unpin namespace: %w", err)
	}
	return nil
}

// Do runs fn with its thread inside the network namespace pinned at path and
// returns fn's error. Sockets that fn opens belong to the namespace for good;
// goroutines it starts do not run inside.
func Do(path string, fn func() error) error {
	return onThread(kind{flag: unix.CLONE_NEWNET, name: "net"}, func() error {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open namespace %s: %w", path, err)
		}
		defer unix.Close(fd)
		if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter namespace %s: %w", path, err)
		}
		return fn()
	})
}

// DialIn connects from inside the network namespace pinned at path. The
// address must be a literal one with a port ("127.0.0.1:80"): looking up names
// would happen outside.
func DialIn(ctx context.Context, path, network, address string) (net.Conn, error) {
	if _, err := netip.ParseAddrPort(address); err != nil {
		return nil, fmt.Errorf("dial %s in a namespace: %w; give an address, not a name", address, err)
	}
	var conn net.Conn
	err := Do(path, func() (err error) {
		var d net.Dialer
		conn, err = d.DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

func create(path string, k kind) error {
	return pin(path, func() error { return makePinned(path, k) })
}

// pin makes a file at path for a namespace that mount puts there, unless there is
// one already.
func pin(path string, mount func() error) error {
	if Exists(path) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("pin namespace: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE, 0o444)
	if err != nil {
		return fmt.Errorf("pin namespace: %w", err)
	}
	f.Close()
	if err = mount(); err != nil {
		os.Remove(path)
	}
	return err
}

func makePinned(path string, k kind) error {
	return inNew(k, func() error { return bind(ownPath(k), path) })
}

// inNew runs fn on a thread that is in a new namespace of the kind.
func inNew(k kind, fn func() error) error {
	return onThread(k, func() error {
		if err := unix.Unshare(k.flag); err != nil {
			return fmt.Errorf("make %s namespace: %w", k.name, err)
		}
		if k.setup != nil {
			if err := k.setup(); err != nil {
				return err
			}
		}
		return fn()
	})
}

// ownPath is where a thread finds the namespace that it is in.
func ownPath(k kind) string { return "/proc/thread-self/ns/" + k.name }

func bind(namespace, path string) error {
	if err := unix.Mount(namespace, path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("pin namespace at %s: %w", path, err)
	}
	return nil
}

// onThread runs fn on a thread of its own that fn may move to another
// namespace of the kind, and brings the thread back. A thread that cannot be
// brought back stays locked, and so ends with the goroutine.
func onThread(k kind, fn func() error) error {
	done := make(chan error)
	go func() {
		done <- func() error {
			runtime.LockOSThread()
			home, err := unix.Open(ownPath(k), unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				return fmt.Errorf("open own %s namespace: %w", k.name, err)
			}
			defer unix.Close(home)
			err = call(fn)
			if unix.Setns(home, k.flag) == nil {
				runtime.UnlockOSThread()
			}
			return err
		}()
	}()
	return <-done
}

// call turns a panic of fn into an error: fn runs on a goroutine whose panic
// its caller could not recover.
func call(fn func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			buf := make([]byte, 8<<10)
			err = fmt.Errorf("panic in namespace: %v\n%s", r, buf[:runtime.Stack(buf, false)])
		}
	}()
	return fn()
}

func loopbackUp() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find loopback: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("bring loopback up: %w", err)
	}
	return nil
}
