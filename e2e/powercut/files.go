package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// fileSystem is one of those that the store may live on.
type fileSystem struct {
	name    string
	command []string // makes it on the image that comes last
	options []string // one of them is what a boot mounts it with
	modules []string // of the kernel, in their order
	// whole tells of writes that the file system relies on to be written whole,
	// and cannot be mounted without repair when they are not.
	whole func(offset int64, data []byte) bool
}

// diskBytes is room for a store that is compacted and copied while it is small.
const diskBytes = 64 << 20

// fileSystems are constant: those that may be chosen.
var fileSystems = map[string]fileSystem{
	// As Debian makes and mounts it, nothing put off until after the first mount;
	// and without what makes up for programs that do not sync.
	"ext4": {
		name:    "ext4",
		command: []string{"mkfs.ext4", "-q", "-F", "-b", "4096", "-E", "lazy_itable_init=0,lazy_journal_init=0"},
		options: []string{"data=ordered", "data=writeback,noauto_da_alloc"},
		whole:   ext4Whole,
	},
}

// ext4Whole tells of ext4's superblock and of the journal's own blocks, which
// have checksums: a commit block of which a part is new is an error to the
// kernel, and no unfinished transaction. Disks write 4 KiB whole.
func ext4Whole(offset int64, data []byte) bool {
	const journal = 0xc03b3998
	return offset == 0 || len(data) == 4096 && binary.BigEndian.Uint32(data) == journal
}

func names() string { return strings.Join(slices.Sorted(maps.Keys(fileSystems)), ", ") }

// make returns the image of an empty one.
func (f fileSystem) make(ctx context.Context, dir string) ([]byte, error) {
	path := filepath.Join(dir, "disk.img")
	defer os.Remove(path)
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		return nil, err
	}
	if err := os.Truncate(path, diskBytes); err != nil {
		return nil, err
	}
	command := append(slices.Clone(f.command), path)
	if out, err := exec.CommandContext(ctx, command[0], command[1:]...).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%s: %w: %s", command[0], err, out)
	}
	return os.ReadFile(path)
}
