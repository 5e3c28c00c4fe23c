package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/skiff-sh/skiff/e2e/box"
	"github.com/skiff-sh/skiff/e2e/process"
	"github.com/skiff-sh/skiff/internal/netns"
)

// baseVariable names the directory of a run; the process that has it runs the
// tests.
const baseVariable = "SKIFF_E2E_DIR"

// base and skiff are where a run keeps everything and what it tests.
var (
	base  = os.Getenv(baseVariable)
	skiff = os.Getenv("SKIFF_BIN")
)

func TestMain(m *testing.M) {
	if base != "" {
		os.Exit(runTests(m))
	}
	if os.Getuid() != 0 {
		fmt.Fprintln(os.Stderr, "skipped: tests of whole machines need root")
		return
	}
	os.Exit(guard())
}

// guard runs the tests in a process of their own, with network and mount
// namespaces of their own, and cleans up after them however they end.
func guard() int {
	begin := time.Now()
	skiff, err := process.Skiff()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if base, err = os.MkdirTemp("", "skiff-e2e-"); err == nil {
		err = enterNamespaces()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "prepare:", err)
		return 1
	}
	// Who is told to end still has to clean up; the tests end at once.
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", append([]string{"-test.parallel=6"}, os.Args[1:]...)...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), baseVariable+"="+base, "SKIFF_BIN="+skiff)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	code := 0
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "tests:", err)
		code = 1
	}
	if err := cleanUp(skiff, code != 0); err != nil {
		fmt.Fprintln(os.Stderr, "clean up:", err)
		code = 1
	}
	fmt.Printf("whole machines: %.0f s\n", time.Since(begin).Seconds())
	return code
}

// enterNamespaces moves this thread, and so the processes it starts.
func enterNamespaces() error {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("make namespaces: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keep mounts private: %w", err)
	}
	return nil
}

// cleanUp ends every machine of the run. Each has a directory below
// base/machines; those with a network namespace of their own pin it in
// base/net.
func cleanUp(skiff string, failed bool) error {
	var errs []error
	machines, err := filepath.Glob(filepath.Join(base, "machines", "*"))
	errs = append(errs, err)
	for _, dir := range machines {
		log, err := os.ReadFile(dir + "/server.log")
		if !errors.Is(err, os.ErrNotExist) { // a script's server writes elsewhere
			errs = append(errs, err)
		}
		if failed {
			printTail(dir, string(log))
		}
		if at := strings.Index(string(log), "panic"); at >= 0 {
			errs = append(errs, fmt.Errorf("%s panicked: %.4000s", dir, log[at:]))
		}
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
	return errors.Join(append(errs, os.RemoveAll(base))...)
}

func printTail(dir, log string) {
	lines := strings.Split(strings.TrimSpace(log), "\n")
	fmt.Printf("--- log of %s\n%s\n", dir, strings.Join(lines[max(0, len(lines)-60):], "\n"))
}

func runTests(m *testing.M) int {
	if err := prepare(); err != nil {
		fmt.Fprintln(os.Stderr, "prepare:", err)
		return 1
	}
	return m.Run()
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
