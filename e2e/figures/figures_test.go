package figures

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestSheetMerges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "below", "figures.json")
	for _, set := range []map[string]float64{{"a": 1, "b": 2}, {"b": 3}} {
		s := NewSheet(path)
		for key, value := range set {
			s.Set(key, value)
		}
		if err := s.Write(); err != nil {
			t.Fatal(err)
		}
	}
	all, err := Read(path)
	if err != nil || all["a"] != 1 || all["b"] != 3 {
		t.Fatal(all, err)
	}
}

func TestPercentile(t *testing.T) {
	values := []time.Duration{5, 1, 4, 2, 3}
	for p, want := range map[float64]time.Duration{0: 1, 0.5: 3, 0.99: 5, 1: 5} {
		if got := Percentile(values, p); got != want {
			t.Errorf("part %v: %d, want %d", p, got, want)
		}
	}
	if got := Median([]float64(nil)); got != 0 {
		t.Error("of nothing:", got)
	}
}

// What a process writes and syncs shows in its usage, and on the disk where
// there is one.
func TestWrittenIsCounted(t *testing.T) {
	const size = 1 << 20
	dir := t.TempDir()
	disk, err := DiskUnder(dir)
	if err != nil {
		t.Fatal(err)
	}
	if disk == nil {
		t.Skip("no block device under", dir)
	}
	onDisk, err := disk.Written()
	if err != nil {
		t.Fatal(err)
	}
	before, err := UsageOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "f"), make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	after, err := UsageOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if after.Written-before.Written < size || after.Anon == 0 {
		t.Errorf("written %v of %d bytes, usage %+v", after.Written-before.Written, size, after)
	}
	if now, err := disk.Written(); err != nil || now-onDisk < size {
		t.Errorf("%v of %d bytes came to %s: %v", now-onDisk, size, disk.Name, err)
	}
}
