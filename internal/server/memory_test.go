package server

import (
	"math"
	"os"
	"path/filepath"
	"testing"
)

// The least limit on the way up counts, in both versions of cgroups.
func TestCgroupLimit(t *testing.T) {
	for name, c := range map[string]struct {
		own   string
		files map[string]string
		want  int64
	}{
		"none":              {own: "1:cpu:/\n0::/\n", want: math.MaxInt64},
		"version 1":         {own: "4:memory:/a/b\n0::/\n", files: map[string]string{"memory/a/b/memory.limit_in_bytes": "9223372036854771712", "memory/a/memory.limit_in_bytes": "1000"}, want: 1000},
		"version 2":         {own: "0::/a/b\n", files: map[string]string{"a/b/memory.max": "500\n", "a/memory.max": "max\n"}, want: 500},
		"in a container":    {own: "4:memory:/docker/x\n", files: map[string]string{"memory/memory.limit_in_bytes": "700"}, want: 700},
		"of others":         {own: "4:memory:/a\n", files: map[string]string{"memory/b/memory.limit_in_bytes": "700"}, want: math.MaxInt64},
		"without any":       {own: "", want: math.MaxInt64},
		"not to be read":    {own: "0::/a\n", files: map[string]string{"a/memory.max": "x"}, want: math.MaxInt64},
		"not below a limit": {own: "nonsense\n", want: math.MaxInt64},
	} {
		dir := t.TempDir()
		own := filepath.Join(dir, "own")
		write(t, own, c.own)
		for file, text := range c.files {
			write(t, filepath.Join(dir, "root", file), text)
		}
		if got := cgroupLimit(own, filepath.Join(dir, "root")); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
