package containerd

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestHandlers(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	for name, mode := range map[string]os.FileMode{
		first + "/crun": 0o755, second + "/crun": 0o755, second + "/runsc": 0o755, first + "/runsc": 0o644,
		second + "/nvidia-container-runtime": 0o755, first + "/kata-runtime": 0o755,
	} {
		if err := os.WriteFile(name, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	found := FindHandlers(first + ":relative::" + second)
	want := map[string]string{"crun": first + "/crun", "runsc": second + "/runsc", "nvidia": second + "/nvidia-container-runtime"}
	if !maps.Equal(found, want) {
		t.Errorf("found %v, want %v", found, want)
	}
	r := &Runtime{config: Config{Runc: "/runc", Handlers: found}}
	if got := r.Handlers(); !slices.Equal(got, []string{"crun", "nvidia", "runc", "runsc"}) {
		t.Errorf("handlers %v", got)
	}
	for handler, want := range map[string]string{"": "/runc", "runc": "/runc", "crun": first + "/crun"} {
		dir := filepath.Join(t.TempDir(), "pod")
		if err := r.chooseHandler(dir, handler); err != nil {
			t.Error(err)
		}
		if got, err := r.program(dir); got != want || err != nil {
			t.Errorf("%q runs by %q, %v", handler, got, err)
		}
	}
	if err := r.chooseHandler(t.TempDir(), "kata"); err == nil || err.Error() != `no runtime for "kata" is configured` {
		t.Errorf("unknown: %v", err)
	}
}
