// Package figures is what the measuring programs have in common: a Sheet of
// named figures in a JSON file, the Usage of processes, and the Disk under a
// directory with what was written to it. It measures what is; it asserts
// nothing and starts nothing.
package figures

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Sheet is a set of figures by flat keys, kept in a JSON file.
type Sheet struct {
	path   string
	values map[string]float64
}

// NewSheet returns an empty sheet that Write merges into the file at path.
func NewSheet(path string) *Sheet { return &Sheet{path, map[string]float64{}} }

// Set notes a figure.
func (s *Sheet) Set(key string, value float64) { s.values[key] = value }

// Write merges the figures into what the file has, so that parts can be
// measured again one at a time.
func (s *Sheet) Write() error {
	all, err := Read(s.path)
	if err != nil {
		return err
	}
	maps.Copy(all, s.values)
	data, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(s.path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(s.path, append(data, '\n'), 0o644)
}

// Read returns the figures in a file; none when there is no file.
func Read(path string) (map[string]float64, error) {
	all := map[string]float64{}
	data, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return all, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, &all); err != nil {
		return nil, fmt.Errorf("read %s: %w; delete it to start over", path, err)
	}
	return all, nil
}

// Milliseconds returns d with three decimals.
func Milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// Percentile returns the value below which the part p (0 to 1) of the values
// lies, 0 when there are none.
func Percentile[T int | float64 | time.Duration](values []T, p float64) T {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(len(sorted)-1, int(p*float64(len(sorted))))]
}

// Median returns the middle one of the values.
func Median[T int | float64 | time.Duration](values []T) T { return Percentile(values, 0.5) }
