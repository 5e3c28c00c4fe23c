package figures

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Disk is the block device under a directory. What is written to it counts for
// everybody on the machine, the file system's journal included.
type Disk struct {
	Name string // "vda"
	dir  string
	id   string // "254 0", as /proc/diskstats begins its lines
}

// DiskUnder finds the device, nil when the kernel keeps no statistics for it
// (memory, overlays and file systems that span several).
func DiskUnder(dir string) (*Disk, error) {
	var stat unix.Stat_t
	if err := unix.Stat(dir, &stat); err != nil {
		return nil, fmt.Errorf("find the disk under %s: %w", dir, err)
	}
	d := &Disk{dir: dir, id: fmt.Sprint(unix.Major(stat.Dev), " ", unix.Minor(stat.Dev))}
	columns, err := d.columns()
	if err != nil || columns == nil {
		return nil, err
	}
	d.Name = columns[2]
	return d, nil
}

// Written brings what the file system holds back to the device and returns how
// many bytes the device has been given since it was attached.
func (d *Disk) Written() (float64, error) {
	if err := d.sync(); err != nil {
		return 0, fmt.Errorf("sync the file system of %s: %w", d.dir, err)
	}
	columns, err := d.columns()
	if err != nil {
		return 0, err
	}
	if columns == nil {
		return 0, fmt.Errorf("disk %s is gone from /proc/diskstats", d.Name)
	}
	sectors, err := strconv.ParseFloat(columns[9], 64)
	return 512 * sectors, err // the kernel counts in 512 bytes whatever the device has
}

func (d *Disk) sync() error {
	dir, err := os.Open(d.dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	return unix.Syncfs(int(dir.Fd()))
}

// columns returns the device's line of /proc/diskstats, nil if it has none.
func (d *Disk) columns() ([]string, error) {
	data, err := os.ReadFile("/proc/diskstats")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(data)) {
		if columns := strings.Fields(line); len(columns) > 9 && columns[0]+" "+columns[1] == d.id {
			return columns, nil
		}
	}
	return nil, nil
}
