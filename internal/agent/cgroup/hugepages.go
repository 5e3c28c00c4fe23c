package cgroup

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// PageSizes are the sizes, in bytes, of the machine's huge pages.
func PageSizes() []int64 { return pageSizes("/sys/kernel/mm/hugepages") }

func pageSizes(dir string) []int64 {
	entries, _ := os.ReadDir(dir) // a kernel without huge pages has none
	var sizes []int64
	for _, e := range entries {
		name := strings.TrimSuffix(strings.TrimPrefix(e.Name(), "hugepages-"), "kB")
		if kb, err := strconv.ParseInt(name, 10, 64); err == nil {
			sizes = append(sizes, kb<<10)
		}
	}
	return sizes
}

// PageName is how the kernel's cgroup files name a size of pages: "2MB".
func PageName(size int64) string {
	for _, unit := range []struct {
		size int64
		name string
	}{{1 << 30, "GB"}, {1 << 20, "MB"}} {
		if size >= unit.size {
			return strconv.FormatInt(size/unit.size, 10) + unit.name
		}
	}
	return strconv.FormatInt(size>>10, 10) + "KB"
}

// setHugePages limits what the Pod may use of each size of pages, and reserve
// where the kernel counts that by itself: nothing, where it asks for none.
func (t *Tree) setHugePages(dir string, p Pod) error {
	base, format := t.v1["hugetlb"], "hugetlb.%s%s.limit_in_bytes"
	if t.unified != "" {
		base, format = t.unified, "hugetlb.%s%s.max"
	}
	if base == "" {
		return nil
	}
	for _, size := range t.pages {
		for _, kind := range []string{"", ".rsvd"} {
			file := fmt.Sprintf(format, PageName(size), kind)
			if err := t.set(base, dir, file, strconv.FormatInt(p.HugePages[size], 10)); err != nil {
				return err
			}
		}
	}
	return nil
}
