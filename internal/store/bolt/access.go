package bolt

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// accessError says what to do about a path that cannot be used as it is.
func accessError(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w; %s: run as the owner, or give the owner's rights to this user", err, owners(path))
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w; mount it for writing, or choose another data directory", err)
	case errors.Is(err, syscall.EISDIR), errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("%w; the store is a file in a directory: move away what is in its place, or choose another data directory", err)
	case errors.Is(err, syscall.EIO):
		return fmt.Errorf("%w; the disk fails: the kernel's log says more, and `skiff store salvage` reads what can be read", err)
	}
	return err
}

// owners tells whom a path, or the first directory above it that can be seen,
// belongs to.
func owners(path string) string {
	info, err := os.Lstat(path)
	for err != nil && path != "/" && path != "." {
		path = filepath.Dir(path)
		info, err = os.Lstat(path)
	}
	if err != nil {
		return fmt.Sprintf("this process runs as user %d", os.Geteuid())
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return path + " is not this user's"
	}
	return fmt.Sprintf("%s belongs to user %d and this process runs as user %d", path, stat.Uid, os.Geteuid())
}
