package figures

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Usage is what processes use.
type Usage struct {
	RSS, PSS, Anon float64 // bytes of memory
	Written        float64 // bytes sent towards the disk since they started
	CPU            time.Duration
}

// UsageOf adds up the processes.
func UsageOf(pids ...int) (Usage, error) {
	var u Usage
	for _, pid := range pids {
		if err := u.add(pid); err != nil {
			return u, fmt.Errorf("usage of process %d: %w", pid, err)
		}
	}
	return u, nil
}

func (u *Usage) add(pid int) error {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	rollup, err := readFields(filepath.Join(dir, "smaps_rollup"))
	if err != nil {
		return err
	}
	u.RSS += 1024 * rollup["Rss"]
	u.PSS += 1024 * rollup["Pss"]
	u.Anon += 1024 * rollup["Anonymous"]
	io, err := readFields(filepath.Join(dir, "io"))
	if err != nil {
		return err
	}
	u.Written += io["write_bytes"] - io["cancelled_write_bytes"]
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
		u.CPU += time.Duration(n) * 10 * time.Millisecond
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
