package cgroup

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func files(t *testing.T, content map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range content {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestUnifiedUsage(t *testing.T) {
	dir := files(t, map[string]string{
		"kubepods/burstable/podu/c/cpu.stat":            "usage_usec 2500000\nuser_usec 1\nnr_periods 10\nnr_throttled 3\nthrottled_usec 40",
		"kubepods/burstable/podu/c/cpu.weight":          "39",
		"kubepods/burstable/podu/c/cpu.max":             "50000 100000",
		"kubepods/burstable/podu/c/memory.current":      "5000",
		"kubepods/burstable/podu/c/memory.stat":         "anon 3000\nfile 1500\nfile_mapped 200\ninactive_file 1000\npgfault 7\npgmajfault 1",
		"kubepods/burstable/podu/c/memory.max":          "8192",
		"kubepods/burstable/podu/c/memory.swap.current": "11",
		"kubepods/burstable/podu/c/pids.current":        "2",
	})
	tree := &Tree{root: "kubepods", unified: dir}
	p := Pod{UID: "u", Class: Burstable}
	got, err := tree.Usage(p, "c")
	if err != nil {
		t.Fatal(err)
	}
	want := Usage{
		CPU: 2500 * time.Millisecond, Periods: 10, Throttled: 3, ThrottledTime: 40 * time.Microsecond,
		Memory: 5000, WorkingSet: 4000, RSS: 3000, Cache: 1500, Mapped: 200, Swap: 11, Faults: 7, MajorFaults: 1,
		Processes: 2, MemoryLimit: 8192, CPUQuota: 50000, CPUPeriod: 100000, CPUShares: 998,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
	if _, err := tree.Usage(p, "gone"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of one that is gone: %v", err)
	}
	if path := tree.Path(p, "c"); path != "/kubepods/burstable/podu/c" {
		t.Errorf("path %s", path)
	}
}

func TestV1Usage(t *testing.T) {
	dir := files(t, map[string]string{
		"cpu/kubepods/podu/cpuacct.usage":            "2500000000",
		"cpu/kubepods/podu/cpu.stat":                 "nr_periods 10\nnr_throttled 3\nthrottled_time 40",
		"cpu/kubepods/podu/cpu.shares":               "512",
		"cpu/kubepods/podu/cpu.cfs_quota_us":         "-1",
		"memory/kubepods/podu/memory.usage_in_bytes": "5000",
		"memory/kubepods/podu/memory.stat":           "total_rss 3000\ntotal_cache 1500\ntotal_mapped_file 200\ntotal_inactive_file 6000\ntotal_pgfault 7",
		"memory/kubepods/podu/memory.limit_in_bytes": "9223372036854771712",
	})
	tree := &Tree{root: "kubepods", v1: map[string]string{
		"cpu": filepath.Join(dir, "cpu"), "cpuacct": filepath.Join(dir, "cpu"), "memory": filepath.Join(dir, "memory"),
	}}
	got, err := tree.Usage(Pod{UID: "u"}, "")
	if err != nil {
		t.Fatal(err)
	}
	want := Usage{
		CPU: 2500 * time.Millisecond, Periods: 10, Throttled: 3, ThrottledTime: 40,
		Memory: 5000, RSS: 3000, Cache: 1500, Mapped: 200, Faults: 7, CPUShares: 512,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
}

// The kernel's own files, of a process that uses something.
func TestUsageOfTheKernel(t *testing.T) {
	tree := open(t)
	p := Pod{UID: "used", Class: Burstable, CPUShares: 512, MemoryLimit: 64 << 20}
	if err := tree.Create(p); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", "read go; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo done; read end")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		in.Close()
		_ = cmd.Wait() // that its input ended is no news
		if err := tree.Remove("used"); err != nil {
			t.Error(err)
		}
	}()
	for _, base := range tree.mountPoints() {
		if err := write(filepath.Join(base, tree.Parent(p), "cgroup.procs"), strconv.Itoa(cmd.Process.Pid)); err != nil {
			t.Fatal(err)
		}
	}
	before, err := tree.Usage(p, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write([]byte("go\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 8)); err != nil {
		t.Fatal(err)
	}
	after, err := tree.Usage(p, "")
	if err != nil {
		t.Fatal(err)
	}
	if after.CPU <= before.CPU || after.MemoryLimit != 64<<20 || after.Memory < after.WorkingSet || after.CPUShares < 500 || after.CPUShares > 520 {
		t.Errorf("before %+v\nafter %+v", before, after)
	}
}
