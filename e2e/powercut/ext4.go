package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// diskBytes is room for a store that is compacted and copied while it is small.
const diskBytes = 64 << 20

// mountOptions are constant, one of them is a boot's: ext4 as Debian mounts it,
// and without what makes up for programs that do not sync.
var mountOptions = []string{"data=ordered", "data=writeback,noauto_da_alloc"}

// makeExt4 returns the image of an empty file system, as Debian makes them;
// nothing is put off until after the first mount.
func makeExt4(ctx context.Context, dir string) ([]byte, error) {
	path := filepath.Join(dir, "disk.img")
	defer os.Remove(path)
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		return nil, err
	}
	if err := os.Truncate(path, diskBytes); err != nil {
		return nil, err
	}
	command := exec.CommandContext(ctx, "mkfs.ext4", "-q", "-F", "-b", "4096", "-E", "lazy_itable_init=0,lazy_journal_init=0", path)
	if out, err := command.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("make a file system: %w: %s", err, out)
	}
	return os.ReadFile(path)
}

// ext4Whole tells of the writes that ext4 relies on to be written whole, and
// without which it cannot be mounted before it is repaired: the superblock and
// the journal's own blocks. They have checksums, and a commit block of which a
// part is new is an error to the kernel, not an unfinished transaction. Disks
// write 4 KiB whole.
func ext4Whole(offset int64, data []byte) bool {
	const journal = 0xc03b3998
	return offset == 0 || len(data) == 4096 && binary.BigEndian.Uint32(data) == journal
}
