package static

import (
	"context"
	"os"
	"path/filepath"
	"testing"
)

func TestDir(t *testing.T) {
	dir := t.TempDir()
	var troubles []string
	d := Dir{Path: dir, Node: "n", Trouble: func(path string, err error) { troubles = append(troubles, filepath.Base(path)) }}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	count := func(want int) {
		t.Helper()
		if pods, err := d.Pods(); err != nil || len(pods) != want {
			t.Errorf("%d Pods, %v; want %d", len(pods), err, want)
		}
	}
	count(0)
	write("a.yaml", head)
	write(".hidden.yaml", head)
	write("b.json", `{"apiVersion": "v1", "kind": "PodList", "items": [{"metadata": {"name": "x"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}]}`)
	write("c.yaml", head) // the name is taken
	write("readme", "no Pod")
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	count(2)
	write("a.yaml", "now it is wrong")
	count(2)
	count(2)
	if len(troubles) != 2 || troubles[0] != "readme" || troubles[1] != "a.yaml" {
		t.Errorf("told of %q", troubles)
	}
	if err := os.Remove(filepath.Join(dir, "b.json")); err != nil {
		t.Fatal(err)
	}
	count(1)
}

func TestWatch(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "here")
	ctx, cancel := context.WithCancel(t.Context())
	changes, ended := make(chan struct{}, 100), make(chan error, 1)
	go func() { ended <- Watch(ctx, dir, func() { changes <- struct{}{} }) }()
	<-changes // it watches
	path := filepath.Join(dir, "a.yaml")
	if err := os.WriteFile(path, []byte(head), 0o644); err != nil {
		t.Fatal(err)
	}
	<-changes
	if err := os.Rename(path, path+"2"); err != nil {
		t.Fatal(err)
	}
	<-changes
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
