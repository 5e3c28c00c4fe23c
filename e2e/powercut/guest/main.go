// Guest is process 1 of the machine whose power is cut: it loads the drivers it
// needs, says "ready" on its port and waits for a plan. Then it mounts the disk,
// checks and opens the store, tells all that is in it, and writes until the
// power goes, telling every acknowledgement before it writes on.
//
// The host may keep the machine's memory at "ready" and start it from there for
// each cut, so everything that depends on the disk comes after the plan.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skiff-sh/skiff/e2e/powercut/load"
)

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "guest is process 1 of the machine that make powercut starts")
		os.Exit(1)
	}
	if err := boot(); err != nil {
		fmt.Println("guest:", err)
	}
	// Process 1 must not end. The host takes the power away.
	for {
		_ = unix.Pause()
	}
}

// boot is all of the machine's life.
func boot() error {
	for _, m := range []struct{ source, target, kind string }{
		{"dev", "/dev", "devtmpfs"}, {"proc", "/proc", "proc"}, {"sys", "/sys", "sysfs"},
	} {
		if err := mount(m.source, m.target, m.kind, ""); err != nil {
			return err
		}
	}
	if err := insert("/modules/port/*.ko"); err != nil {
		return err
	}
	port, err := appears("/dev/vport*", func(path string) (*os.File, error) { return os.OpenFile(path, os.O_RDWR, 0) })
	if err != nil {
		return err
	}
	h := &host{port: port}
	h.tell("ready")
	line, err := bufio.NewReader(port).ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("read the plan: %w", err)
	}
	var plan load.Plan
	if err := json.Unmarshal(line, &plan); err != nil {
		return fmt.Errorf("read the plan: %w", err)
	}
	if err := work(h, plan); err != nil {
		h.tell("error %s", err)
	}
	return nil
}

// work mounts the disk and lives with the store on it.
func work(h *host, plan load.Plan) error {
	if err := insert("/modules/disk/*.ko"); err != nil {
		return err
	}
	device, err := appears("/dev/vda", os.Open)
	if err != nil {
		return err
	}
	device.Close()
	if err := mount("/dev/vda", "/disk", "ext4", plan.MountOptions); err != nil {
		return err
	}
	h.tell("mounted")
	return live(h, plan, "/disk/store/store.db")
}

func mount(source, target, kind, options string) error {
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(source, target, kind, 0, options); err != nil && !errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("mount %s: %w", target, err)
	}
	return nil
}

// insert loads modules, in the order of their names.
func insert(pattern string) error {
	paths, err := filepath.Glob(pattern)
	if err != nil {
		return err
	}
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		f.Close()
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("load %s: %w", path, err)
		}
	}
	return nil
}

// appears opens a device file that the kernel makes soon after its driver came.
func appears(pattern string, open func(string) (*os.File, error)) (*os.File, error) {
	for range 5000 {
		paths, _ := filepath.Glob(pattern)
		if len(paths) > 0 {
			f, err := open(paths[0])
			if err == nil || !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENXIO) {
				return f, err
			}
		}
		time.Sleep(2 * time.Millisecond)
	}
	return nil, fmt.Errorf("no device %s appeared", pattern)
}
