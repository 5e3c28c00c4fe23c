package netns

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// RaiseLoopback sets the loopback up in a network namespace that another made
// and pinned at path.
func RaiseLoopback(path string) error { return Do(path, loopbackUp) }

// SetHostname sets the host name of the UTS namespace pinned at path.
func SetHostname(path, hostname string) error {
	return onThread(kind{flag: unix.CLONE_NEWUTS, name: "uts"}, func() error {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open namespace %s: %w", path, err)
		}
		defer unix.Close(fd)
		if err := unix.Setns(fd, unix.CLONE_NEWUTS); err != nil {
			return fmt.Errorf("enter namespace %s: %w", path, err)
		}
		if err := unix.Sethostname([]byte(hostname)); err != nil {
			return fmt.Errorf("set host name %q: %w", hostname, err)
		}
		return nil
	})
}
