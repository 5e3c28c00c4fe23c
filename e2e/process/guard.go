package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Variables of the process that runs guarded tests: the run's directory, and skiff.
const (
	BaseVariable  = "SKIFF_E2E_DIR"
	SkiffVariable = "SKIFF_BIN"
)

// Guard runs a package's tests, which need root, in a process of their own with network
// and mount namespaces of their own, and cleans up after them however they end.
type Guard struct {
	What     string // the tests are of: "clusters"
	Parallel int    // how many run at once
	// Base and Skiff are the package's, set before what follows: the run's directory and
	// the executable under test. In the tests' process they come by the variables.
	Base, Skiff *string
	Prepare     func() error            // in the tests' process
	CleanUp     func(failed bool) error // in the guard's, whose directory goes afterwards
}

// Run is for TestMain, whose m it is, and returns the exit code.
func (g Guard) Run(m interface{ Run() int }) int {
	if *g.Base != "" {
		if err := g.Prepare(); err != nil {
			fmt.Fprintln(os.Stderr, "prepare:", err)
			return 1
		}
		return m.Run()
	}
	if os.Getuid() != 0 {
		fmt.Fprintf(os.Stderr, "skipped: tests of %s need root\n", g.What)
		return 0
	}
	begin := time.Now()
	if err := g.enter(); err != nil {
		fmt.Fprintln(os.Stderr, "prepare:", err)
		return 1
	}
	code := 0
	if err := g.test(); err != nil {
		fmt.Fprintln(os.Stderr, "tests:", err)
		code = 1
	}
	for _, clean := range []func() error{
		func() error { return g.CleanUp(code != 0) },
		func() error { return os.RemoveAll(*g.Base) },
	} {
		if err := clean(); err != nil {
			fmt.Fprintln(os.Stderr, "clean up:", err)
			code = 1
		}
	}
	fmt.Printf("%s: %.0f s\n", g.What, time.Since(begin).Seconds())
	return code
}

// enter finds the executable, makes the run's directory, and moves this thread, and so
// the processes it starts, into namespaces.
func (g Guard) enter() (err error) {
	if *g.Skiff, err = Skiff(); err != nil {
		return err
	}
	if *g.Base, err = os.MkdirTemp("", "skiff-e2e-"); err != nil {
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

// test runs the tests. Who is told to end still has to clean up; the tests end at once.
func (g Guard) test() error {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", append([]string{fmt.Sprintf("-test.parallel=%d", g.Parallel)}, os.Args[1:]...)...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), BaseVariable+"="+*g.Base, SkiffVariable+"="+*g.Skiff)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	return cmd.Run()
}

// ExamineLog prints the end of a program's log, where that is wanted, and finds a panic
// in it. What wrote none is no error.
func ExamineLog(path string, show bool) error {
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	log := string(data)
	if show {
		lines := strings.Split(strings.TrimSpace(log), "\n")
		fmt.Printf("--- %s\n%s\n", path, strings.Join(lines[max(0, len(lines)-60):], "\n"))
	}
	if at := strings.Index(log, "panic"); at >= 0 {
		return fmt.Errorf("%s: a panic: %.4000s", path, log[at:])
	}
	return nil
}
