package main

import (
	"fmt"
	"os"
	"time"

	"github.com/skiff-sh/skiff/e2e/figures"
)

// meter says what a spell of work costs: on the disk, which also counts what
// others write, or by processes where the disk has no statistics; and in CPU
// time.
type meter struct {
	disk    *figures.Disk // nil: by processes
	helpers []int         // processes beside this one
	start   reading
}

type reading struct {
	disk          float64
	self, helpers figures.Usage
}

// cost is what was used since the meter was started.
type cost struct {
	written           float64 // bytes, by the disk if it can tell
	processes         float64 // bytes, by processes
	selfCPU, helpsCPU time.Duration
}

// rest is how long writers' traces get to reach the disk: etcd writes its
// database up to 100 ms after it answered.
const rest = 200 * time.Millisecond

func startMeter(disk *figures.Disk, helpers []int) (*meter, error) {
	m := &meter{disk: disk, helpers: helpers}
	var err error
	m.start, err = m.read()
	return m, err
}

func (m *meter) stop() (cost, error) {
	time.Sleep(rest)
	end, err := m.read()
	c := cost{
		selfCPU:   end.self.CPU - m.start.self.CPU,
		helpsCPU:  end.helpers.CPU - m.start.helpers.CPU,
		processes: end.self.Written - m.start.self.Written + end.helpers.Written - m.start.helpers.Written,
	}
	c.written = c.processes
	if m.disk != nil {
		c.written = end.disk - m.start.disk
	}
	return c, err
}

func (m *meter) read() (r reading, err error) {
	if m.disk != nil {
		if r.disk, err = m.disk.Written(); err != nil {
			return r, err
		}
	}
	if r.self, err = figures.UsageOf(os.Getpid()); err != nil {
		return r, err
	}
	r.helpers, err = figures.UsageOf(m.helpers...)
	return r, err
}

// source says where the bytes come from.
func (b *bench) source() string {
	if b.disk == nil {
		return "the processes' own counts (/proc/PID/io): no statistics are kept for this file system's device"
	}
	return fmt.Sprintf("the statistics of the block device %s, which count everybody on this machine and the file system's journal", b.disk.Name)
}
