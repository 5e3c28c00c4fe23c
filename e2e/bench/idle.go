package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/skiff-sh/skiff/e2e/figures"
)

// settle is how long a server gets to come to rest before it is watched.
const settle = 20 * time.Second

// extraPods is how many Pods the cost of one is measured with.
const extraPods = 100

// idle measures a server that has nothing to do, and what Pods add.
func (b *bench) idle(ctx context.Context) error {
	return b.withServer(ctx, func(s *server) error {
		if err := sleep(ctx, settle); err != nil {
			return err
		}
		without, err := b.watch(ctx, s)
		if err != nil {
			return err
		}
		var names []string
		for i := range extraPods {
			names = append(names, fmt.Sprintf("pod-%d", i))
		}
		if _, err := s.startPods(ctx, names); err != nil {
			return err
		}
		if err := sleep(ctx, settle); err != nil {
			return err
		}
		return b.withPods(ctx, s, without)
	})
}

// withPods notes what the Pods cost while they do nothing: the server's own share
// and that of the shims, of which one waits for the next Pod.
func (b *bench) withPods(ctx context.Context, s *server, without figures.Usage) error {
	before, err := readTree(s.process.PID())
	if err != nil {
		return err
	}
	own, err := figures.UsageOf(s.process.PID())
	if err != nil {
		return err
	}
	if err := sleep(ctx, b.quiet); err != nil {
		return err
	}
	after, err := readTree(s.process.PID())
	if err != nil {
		return err
	}
	ownAfter, err := figures.UsageOf(s.process.PID())
	if err != nil {
		return err
	}
	percent := func(d time.Duration) float64 { return 100 * d.Seconds() / b.quiet.Seconds() }
	b.set("pod_pss_bytes", (after.PSS-without.PSS)/extraPods)
	b.set("pod_anon_bytes", (after.Anon-without.Anon)/extraPods)
	b.set("pod_shim_pss_bytes", (after.PSS-ownAfter.PSS)/(extraPods+1))
	b.set("pods100_idle_cpu_percent", percent(after.CPU-before.CPU))
	b.set("pods100_idle_own_cpu_percent", percent(ownAfter.CPU-own.CPU))
	return nil
}

// watch leaves the server alone for a while and notes what it used.
func (b *bench) watch(ctx context.Context, s *server) (after figures.Usage, err error) {
	disk, err := figures.DiskUnder(s.dir)
	if err != nil {
		return after, err
	}
	before, onDisk, err := readAll(s.process.PID(), disk)
	if err != nil {
		return after, err
	}
	if err := sleep(ctx, b.quiet); err != nil {
		return after, err
	}
	after, thenOnDisk, err := readAll(s.process.PID(), disk)
	if err != nil {
		return after, err
	}
	days := b.quiet.Hours() / 24
	b.set("idle_rss_bytes", after.RSS)
	b.set("idle_pss_bytes", after.PSS)
	b.set("idle_anon_bytes", after.Anon)
	b.set("idle_cpu_percent", 100*(after.CPU-before.CPU).Seconds()/b.quiet.Seconds())
	b.set("idle_written_bytes_per_day", (after.Written-before.Written)/days)
	if disk != nil { // everybody's, the file system's journal too
		b.set("idle_disk_bytes_per_day", (thenOnDisk-onDisk)/days)
	}
	return after, nil
}

// readTree adds up the server and the shims that run from its data directory,
// not the containers.
func readTree(server int) (figures.Usage, error) {
	pids := []int{server}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return figures.Usage{}, err
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		exe, err := os.Readlink(filepath.Join("/proc", e.Name(), "exe"))
		if err == nil && filepath.Base(exe) == "skiff-shim" && strings.Contains(exe, "skiff-bench-") {
			pids = append(pids, pid)
		}
	}
	return figures.UsageOf(pids...)
}

// readAll also reads what everybody wrote to the disk, 0 where that is not
// known.
func readAll(server int, disk *figures.Disk) (figures.Usage, float64, error) {
	u, err := readTree(server)
	if err != nil || disk == nil {
		return u, 0, err
	}
	written, err := disk.Written()
	return u, written, err
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
