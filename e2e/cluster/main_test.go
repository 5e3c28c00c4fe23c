package cluster

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

	"golang.org/x/sys/unix"

	"github.com/skiff-sh/skiff/e2e/box"
	"github.com/skiff-sh/skiff/e2e/cluster/lab"
	"github.com/skiff-sh/skiff/e2e/process"
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
		fmt.Fprintln(os.Stderr, "skipped: tests of clusters need root")
		return
	}
	os.Exit(guard())
}

// guard runs the tests in a process of their own, with network and mount
// namespaces of their own, and cleans up after them however they end.
func guard() int {
	begin := time.Now()
	if err := prepareGuard(); err != nil {
		fmt.Fprintln(os.Stderr, "prepare:", err)
		return 1
	}
	// Who is told to end still has to clean up; the tests end at once.
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", append([]string{"-test.parallel=4"}, os.Args[1:]...)...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), baseVariable+"="+base, "SKIFF_BIN="+skiff)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	code := 0
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "tests:", err)
		code = 1
	}
	if err := cleanUp(code != 0); err != nil {
		fmt.Fprintln(os.Stderr, "clean up:", err)
		code = 1
	}
	fmt.Printf("clusters: %.0f s\n", time.Since(begin).Seconds())
	return code
}

// prepareGuard finds the executable, makes the run's directory, and moves this
// thread, and so the processes it starts, into namespaces.
func prepareGuard() (err error) {
	if skiff, err = process.Skiff(); err != nil {
		return err
	}
	if base, err = os.MkdirTemp("", "skiff-cluster-"); err != nil {
		return err
	}
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("make namespaces: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keep mounts private: %w", err)
	}
	return nil
}

// labConfig is that of the lab of a name; all are below base/labs.
func labConfig(name string) lab.Config {
	dir := filepath.Join(base, "labs", name)
	return lab.Config{Dir: dir, Pins: filepath.Join(dir, "net") + "/", Skiff: skiff}
}

// cleanUp removes every lab of the run and says what it should not have found.
func cleanUp(failed bool) error {
	labs, err := filepath.Glob(filepath.Join(base, "labs", "*"))
	errs := []error{err}
	for _, dir := range labs {
		errs = append(errs, removeLab(filepath.Base(dir), failed))
	}
	return errors.Join(append(errs, os.RemoveAll(base))...)
}

// removeLab removes the lab of a name and says what should not have been there,
// or still is.
func removeLab(name string, failed bool) error {
	c := labConfig(name)
	nodes, err := filepath.Glob(filepath.Join(c.Dir, "nodes", "*"))
	errs := []error{err, examineLogs(c.Dir, failed), lab.Remove(c)}
	for i, dir := range nodes {
		nodes[i] = filepath.Base(dir)
	}
	left, err := lab.Leftovers(c, nodes...)
	if len(left) > 0 {
		errs = append(errs, fmt.Errorf("lab %s has left %q", name, left))
	}
	return errors.Join(append(errs, err)...)
}

// examineLogs prints the ends of a lab's logs, if something failed, and finds
// panics in them.
func examineLogs(dir string, print bool) error {
	logs, err := filepath.Glob(filepath.Join(dir, "nodes", "*", "log"))
	errs := []error{err}
	for _, path := range logs {
		data, err := os.ReadFile(path)
		log := string(data)
		errs = append(errs, err)
		if print {
			printTail(path, log)
		}
		if at := strings.Index(log, "panic"); at >= 0 {
			errs = append(errs, fmt.Errorf("%s: a panic: %.4000s", path, log[at:]))
		}
	}
	return errors.Join(errs...)
}

func printTail(path, log string) {
	lines := strings.Split(strings.TrimSpace(log), "\n")
	fmt.Printf("--- %s\n%s\n", path, strings.Join(lines[max(0, len(lines)-60):], "\n"))
}

func runTests(m *testing.M) int {
	images := filepath.Join(base, "images")
	err := os.MkdirAll(images, 0o755)
	if err == nil {
		_, err = box.Write(images)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "prepare:", err)
		return 1
	}
	return m.Run()
}

// boxArchive is the image that the Pods run.
func boxArchive() string { return filepath.Join(base, "images", "box.tar") }
