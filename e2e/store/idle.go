package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/skiff-sh/skiff/e2e/figures"
)

// idle measures what an idle cluster of one node writes to disk: skiff's server
// with its node, and then an etcd that is given what upstream's components write.
func (b *bench) idle(ctx context.Context) error {
	fmt.Printf("\nBytes written per hour by an idle cluster of one node, watched for %s\n", b.quiet)
	if b.quick {
		fmt.Println("(skiff's server takes too long to come to rest for a quick run)")
	} else if err := b.idleSkiff(ctx); err != nil {
		return err
	}
	return b.idleEtcd(ctx)
}

// idleSkiff has the program that measures whole servers do it: the real
// executable, with its node.
func (b *bench) idleSkiff(ctx context.Context) error {
	out := filepath.Join(b.dir, "idle.json")
	child := exec.CommandContext(ctx, b.bench, "-skiff", b.skiff, "-out", out, "-only", "idle", "-quiet", b.quiet.String())
	child.Env = append(os.Environ(), "TMPDIR="+b.dir) // the same disk
	child.Stderr = os.Stderr
	child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	child.Cancel = func() error { return child.Process.Signal(syscall.SIGTERM) }
	child.WaitDelay = time.Minute // it ends its server first
	if err := child.Run(); err != nil {
		return fmt.Errorf("measure skiff's idle server: %w", err)
	}
	seen, err := figures.Read(out)
	if err != nil {
		return err
	}
	b.set("idle_skiff_process_bytes_per_hour", seen["idle_written_bytes_per_day"]/24)
	if onDisk, ok := seen["idle_disk_bytes_per_day"]; ok {
		b.set("idle_skiff_disk_bytes_per_hour", onDisk/24)
	}
	return nil
}

// idleEtcd replays upstream's idle writes against an etcd that holds a small
// cluster's objects.
func (b *bench) idleEtcd(ctx context.Context) (err error) {
	const objects = 300
	e, err := startEtcd(ctx, b.etcd, filepath.Join(b.dir, "idle-etcd"), objects)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.close()) }()
	if err := fill(ctx, e, objects, newValues()); err != nil {
		return err
	}
	fmt.Println("Etcd is given these writes, each a compare-and-swap, and nothing else:")
	for _, beat := range upstream {
		fmt.Printf("  every %-4s %5d bytes  %s\n", beat.every, len(beat.value()), beat.key)
	}
	m, err := startMeter(b.disk, e.pids())
	if err != nil {
		return err
	}
	began := time.Now()
	if err := replay(ctx, e, b.quiet); err != nil {
		return err
	}
	hours := time.Since(began).Hours()
	cost, err := m.stop()
	if err != nil {
		return err
	}
	b.set("idle_etcd_process_bytes_per_hour", cost.processes/hours)
	if b.disk != nil {
		b.set("idle_etcd_disk_bytes_per_hour", cost.written/hours)
	}
	return nil
}
