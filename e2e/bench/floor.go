package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"golang.org/x/sync/errgroup"

	"github.com/skiff-sh/skiff/internal/config"
)

// floor runs a Pod's container again without all that skiff does: runc alone,
// with the same specification, program and settings and a network namespace of
// its own without any network; and, below that, a process in new namespaces.
type floor struct {
	dir, runc string
	spec      *specs.Spec
	program   string
	runs      int
}

// newFloor takes a running Pod as the model, which must stay.
func (s *server) newFloor(ctx context.Context, model string) (*floor, error) {
	pod, err := s.client.CoreV1().Pods(namespace).Get(ctx, model, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	host := config.NewHost(s.dir)
	bundle, err := only(filepath.Join(host.RunDir, "containerd", "pods", string(pod.UID), "*", "config.json"))
	if err != nil {
		return nil, err
	}
	f := &floor{}
	if f.runc, err = only(filepath.Join(host.DataDir, "agent", "bin", "*", "runc")); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(bundle)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, &f.spec); err != nil {
		return nil, err
	}
	f.program = filepath.Join(filepath.Dir(bundle), "rootfs", f.spec.Process.Args[0])
	for i, n := range f.spec.Linux.Namespaces {
		if n.Type == specs.NetworkNamespace || n.Type == specs.IPCNamespace || n.Type == specs.UTSNamespace {
			f.spec.Linux.Namespaces[i].Path = ""
		}
	}
	f.dir, err = os.MkdirTemp("", "skiff-bench-floor-")
	return f, err
}

// only is the one file that a pattern matches.
func only(pattern string) (string, error) {
	found, err := filepath.Glob(pattern)
	if err == nil && len(found) != 1 {
		err = fmt.Errorf("%s: expected 1 file, found %d", pattern, len(found))
	}
	if err != nil {
		return "", err
	}
	return found[0], nil
}

func (f *floor) remove() { os.RemoveAll(f.dir) }

// both measures runc and the bare process once more.
func (f *floor) both(ctx context.Context, runc, fork *[]time.Duration) error {
	took, err := f.run(ctx, 1)
	if err != nil {
		return err
	}
	*runc = append(*runc, took)
	cmd := exec.CommandContext(ctx, "/bin/true")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS,
	}
	began := time.Now()
	err = cmd.Run()
	*fork = append(*fork, time.Since(began))
	return err
}

// run has runc run n containers at once, and removes them.
func (f *floor) run(ctx context.Context, n int) (time.Duration, error) {
	var bundles []string
	for range n {
		f.runs++
		bundle := filepath.Join(f.dir, fmt.Sprintf("floor-%d-%d", os.Getpid(), f.runs))
		bundles = append(bundles, bundle)
		if err := f.prepare(bundle); err != nil {
			return 0, err
		}
	}
	began := time.Now()
	g, ctx := errgroup.WithContext(ctx)
	for _, bundle := range bundles {
		g.Go(func() error {
			return f.call(ctx, "run", "--detach", "--bundle", bundle, filepath.Base(bundle))
		})
	}
	err := g.Wait()
	took := time.Since(began)
	for _, bundle := range bundles {
		err = errors.Join(err, f.call(context.WithoutCancel(ctx), "delete", "--force", filepath.Base(bundle)), os.RemoveAll(bundle))
	}
	return took, err
}

// call runs runc. What it starts has no output to wait for.
func (f *floor) call(ctx context.Context, args ...string) error {
	log := filepath.Join(f.dir, "log")
	err := exec.CommandContext(ctx, f.runc, append([]string{"--root", filepath.Join(f.dir, "state"), "--log", log}, args...)...).Run()
	if err != nil {
		said, _ := os.ReadFile(log)
		return fmt.Errorf("runc %s: %w: %s", args[0], err, said)
	}
	return nil
}

// prepare makes a bundle with the program in a root file system of its own, and
// its cgroup beside that of the model.
func (f *floor) prepare(bundle string) error {
	spec := *f.spec
	cgroups := *f.spec.Linux
	cgroups.CgroupsPath = filepath.Join(filepath.Dir(f.spec.Linux.CgroupsPath), filepath.Base(bundle))
	spec.Linux = &cgroups
	data, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	target := filepath.Join(bundle, "rootfs", spec.Process.Args[0])
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	program, err := os.ReadFile(f.program)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(bundle, "config.json"), data, 0o600),
		os.WriteFile(target, program, 0o755))
}

// floorOf is how long runc takes for n containers like a Pod's at once.
func (s *server) floorOf(ctx context.Context, model string, n int) (time.Duration, error) {
	f, err := s.newFloor(ctx, model)
	if err != nil {
		return 0, err
	}
	defer f.remove()
	return f.run(ctx, n)
}
