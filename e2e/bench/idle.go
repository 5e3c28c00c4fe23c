package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// settle is how long a server gets to come to rest before it is watched.
const settle = 20 * time.Second

// extraPods is how many Pods the cost of one is measured with.
const extraPods = 10

// idle measures a server that has nothing to do, and what Pods add.
func (b *bench) idle(ctx context.Context) error {
	return b.withServer(ctx, func(s *server) error {
		time.Sleep(settle)
		before, err := readTree(s.process.Process.Pid)
		if err != nil {
			return err
		}
		time.Sleep(b.quiet)
		after, err := readTree(s.process.Process.Pid)
		if err != nil {
			return err
		}
		b.set("idle_rss_bytes", after.rss)
		b.set("idle_pss_bytes", after.pss)
		b.set("idle_anon_bytes", after.anon)
		b.set("idle_cpu_percent", 100*(after.cpu-before.cpu).Seconds()/b.quiet.Seconds())
		b.set("idle_written_bytes_per_day", (after.written-before.written)/b.quiet.Seconds()*86400)
		for i := range extraPods {
			name := fmt.Sprintf("pod-%d", i)
			if err := s.createPod(ctx, name); err != nil {
				return err
			}
			if err := s.waitPod(ctx, name); err != nil {
				return err
			}
		}
		time.Sleep(settle)
		withPods, err := readTree(s.process.Process.Pid)
		if err != nil {
			return err
		}
		b.set("pod_pss_bytes", (withPods.pss-after.pss)/extraPods)
		return nil
	})
}

// usage is what skiff's processes use: the server and its shims, not the
// containers.
type usage struct {
	rss, pss, anon, written float64 // bytes
	cpu                     time.Duration
}

// readTree adds up the server and the shims that run from its data directory.
func readTree(server int) (usage, error) {
	var u usage
	pids := []int{server}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return u, err
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
	for _, pid := range pids {
		if err := u.add(pid); err != nil {
			return u, err
		}
	}
	return u, nil
}

func (u *usage) add(pid int) error {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	rollup, err := readFields(filepath.Join(dir, "smaps_rollup"))
	if err != nil {
		return err
	}
	u.rss += 1024 * rollup["Rss"]
	u.pss += 1024 * rollup["Pss"]
	u.anon += 1024 * rollup["Anonymous"]
	io, err := readFields(filepath.Join(dir, "io"))
	if err != nil {
		return err
	}
	u.written += io["write_bytes"] - io["cancelled_write_bytes"]
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return err
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	columns := strings.Fields(rest)
	for _, column := range columns[11:13] { // utime and stime, in hundredths
		n, err := strconv.Atoi(column)
		if err != nil {
			return err
		}
		u.cpu += time.Duration(n) * 10 * time.Millisecond
	}
	return nil
}

// readFields reads lines such as "Pss:  123 kB".
func readFields(path string) (map[string]float64, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	values := map[string]float64{}
	for line := range strings.Lines(string(data)) {
		key, rest, ok := strings.Cut(line, ":")
		words := strings.Fields(rest)
		if !ok || len(words) == 0 {
			continue
		}
		if n, err := strconv.ParseFloat(words[0], 64); err == nil {
			values[key] = n
		}
	}
	return values, nil
}
