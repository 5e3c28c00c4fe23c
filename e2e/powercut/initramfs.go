package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// The modules that the guest loads, each after those it needs. The disk's comes
// when the machine has been started from its kept memory: before, the guest
// would remember what was on the disk.
var (
	portModules = []string{"virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci", "virtio_console"}
	diskModules = []string{"virtio_blk"}
)

// kernel finds what kernel.sh has unpacked.
type kernel struct {
	image   string
	modules map[string]string // paths by name
}

func findKernel(dir string) (kernel, error) {
	k := kernel{modules: map[string]string{}}
	images, err := filepath.Glob(filepath.Join(dir, "boot", "vmlinuz-*"))
	if err != nil || len(images) != 1 {
		return k, fmt.Errorf("%d kernels in %s; remove it and run make powercut", len(images), dir)
	}
	k.image = images[0]
	err = filepath.WalkDir(filepath.Join(dir, "lib"), func(path string, d fs.DirEntry, err error) error {
		if name := filepath.Base(path); filepath.Ext(name) == ".ko" {
			k.modules[name[:len(name)-len(".ko")]] = path
		}
		return err
	})
	return k, err
}

// makeInitramfs returns the archive from which the guest starts: its program as
// process 1, and the modules.
func makeInitramfs(k kernel, program string) ([]byte, error) {
	a := &archive{}
	for _, dir := range []string{"dev", "proc", "sys", "disk", "modules", "modules/port", "modules/disk"} {
		a.add(dir, 0o040755, nil)
	}
	init, err := os.ReadFile(program)
	if err != nil {
		return nil, err
	}
	a.add("init", 0o100755, init)
	for dir, names := range map[string][]string{"port": portModules, "disk": diskModules} {
		for i, name := range names {
			path, ok := k.modules[name]
			if !ok {
				return nil, fmt.Errorf("the kernel %s has no module %s", filepath.Base(k.image), name)
			}
			module, err := os.ReadFile(path)
			if err != nil {
				return nil, err
			}
			a.add(fmt.Sprintf("modules/%s/%02d-%s.ko", dir, i, name), 0o100644, module)
		}
	}
	a.add("TRAILER!!!", 0, nil)
	return a.Bytes(), nil
}

// archive is a cpio archive in the format "newc", as the kernel's
// Documentation/driver-api/early-userspace/buffer-format.rst has it.
type archive struct {
	bytes.Buffer
	inode int
}

func (a *archive) add(name string, mode int, data []byte) {
	a.inode++
	fmt.Fprintf(a, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		a.inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0)
	a.WriteString(name + "\x00")
	a.pad()
	a.Write(data)
	a.pad()
}

func (a *archive) pad() {
	for a.Len()%4 != 0 {
		a.WriteByte(0)
	}
}
