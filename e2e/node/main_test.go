package node

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/skiff-sh/skiff/e2e/box"
	"github.com/skiff-sh/skiff/e2e/process"
	"github.com/skiff-sh/skiff/internal/netns"
)

// base and skiff are where a run keeps everything and what it tests.
var (
	base  = os.Getenv(process.BaseVariable)
	skiff = os.Getenv(process.SkiffVariable)
)

func TestMain(m *testing.M) {
	os.Exit(process.Guard{What: "whole machines", Parallel: 6, Base: &base, Skiff: &skiff, Prepare: prepare, CleanUp: cleanUp}.Run(m))
}

// cleanUp ends every machine of the run. Each has a directory below
// base/machines; those with a network namespace of their own pin it in
// base/net.
func cleanUp(failed bool) error {
	var errs []error
	machines, err := filepath.Glob(filepath.Join(base, "machines", "*"))
	errs = append(errs, err)
	for _, dir := range machines {
		errs = append(errs, process.ExamineLog(dir+"/server.log", failed))
		kill := exec.Command(skiff, "killall", "--data-dir", filepath.Join(dir, "data"))
		if out, err := kill.CombinedOutput(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w: %s", kill, err, out))
		}
	}
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(base))
	errs = append(errs, err)
	for i := len(mounts) - 1; i >= 0; i-- {
		errs = append(errs, unix.Unmount(mounts[i].Mountpoint, unix.MNT_DETACH))
	}
	return errors.Join(errs...)
}

// prepare makes the machine that most tests share, with a neighbour.
func prepare() error {
	for _, dir := range []string{"net", "machines", "images"} {
		if err := os.MkdirAll(filepath.Join(base, dir), 0o755); err != nil {
			return err
		}
	}
	if err := netns.Create(outside()); err != nil {
		return err
	}
	if err := connectOutside(); err != nil {
		return fmt.Errorf("connect the neighbour: %w", err)
	}
	if err := serveNames(); err != nil {
		return fmt.Errorf("start the neighbour's DNS server: %w", err)
	}
	_, err := box.Write(filepath.Dir(boxArchive()))
	return err
}

// boxArchive is the image that the Pods run.
func boxArchive() string { return filepath.Join(base, "images", "box.tar") }
