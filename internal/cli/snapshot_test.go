package cli

import (
	"encoding/json"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/store"
	"github.com/skiff-sh/skiff/internal/store/bolt"
)

// A snapshot goes through a bucket to another machine, with k3s's names of the
// flags.
func TestSnapshotThroughABucket(t *testing.T) {
	backend := s3mem.New()
	if err := backend.CreateBucket("backups"); err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(gofakes3.New(backend).Server())
	defer web.Close()
	t.Setenv("AWS_ACCESS_KEY_ID", "key")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte("etcd-s3-bucket: backups\netcd-s3-folder: one\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	on := func(dataDir string, args ...string) []string {
		return append(args, "--config", file, "--data-dir", dataDir, "--node-name", "box", "--dir", filepath.Join(dataDir, "kept"),
			"--s3", "--s3-endpoint", strings.TrimPrefix(web.URL, "http://"), "--s3-insecure", "--etcd-s3-bucket-lookup-type", "path")
	}
	must := func(args []string) string {
		t.Helper()
		out, err := run(t.Context(), args...)
		if err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		return out
	}

	old, fresh := t.TempDir(), t.TempDir()
	engine, err := bolt.Open(config.NewHost(old).StorePath(), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	key := store.Key{Bucket: "configmaps", Name: "default/mine"}
	if _, err := engine.Commit(t.Context(), []store.Op{{Key: key}}); err != nil {
		t.Fatal(err)
	}
	if err := engine.Close(); err != nil {
		t.Fatal(err)
	}
	if out := must(on(old, "snapshot", "save")); !strings.Contains(out, "copied to s3://backups/one/on-demand-box-") {
		t.Errorf("save says %s", out)
	}
	var files []struct{ Name, Location string }
	if err := json.Unmarshal([]byte(must(on(old, "snapshot", "ls", "-o", "json"))), &files); err != nil || len(files) != 2 {
		t.Fatalf("ls: %+v, %v", files, err)
	}
	name := files[0].Name
	if !strings.HasPrefix(files[0].Location, "file:///") || files[1].Name != name || files[1].Location != "s3://backups/one/"+name {
		t.Errorf("ls: %+v", files)
	}
	// The other machine has it only in the bucket.
	if out := must(on(fresh, "snapshot", "inspect", name)); !strings.Contains(out, "everything is as it was written") {
		t.Errorf("inspect says %s", out)
	}
	if out := must(on(fresh, "snapshot", "restore", name)); !strings.Contains(out, "restored 1 objects") {
		t.Errorf("restore says %s", out)
	}
	found := 0
	err = bolt.Read(t.Context(), config.NewHost(fresh).StorePath(), func(r store.Record) error {
		if r.Key == key {
			found++
		}
		return nil
	})
	if err != nil || found != 1 {
		t.Errorf("found %d times, %v", found, err)
	}
	if out := must(on(fresh, "snapshot", "rm", name)); !strings.Contains(out, "from the bucket") {
		t.Errorf("rm says %s", out)
	}
	must(on(old, "snapshot", "rm", name)) // only here now
	if _, err := run(t.Context(), on(old, "snapshot", "rm", name)...); err == nil || !strings.Contains(err.Error(), "there is no snapshot") {
		t.Errorf("got %v", err)
	}
}

// Snapshots that are too many go, whatever they are called in full.
func TestSnapshotPrune(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"on-demand-box-1.tar.zst", "on-demand-box-2.tar.zst.age", "on-demand-box-3.tar", "etcd-snapshot-box-1.tar"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := run(t.Context(), "snapshot", "prune", "--data-dir", t.TempDir(), "--dir", dir, "--node-name", "box", "--snapshot-retention", "1")
	if err != nil || out != "removed on-demand-box-1.tar.zst\nremoved on-demand-box-2.tar.zst.age\n" {
		t.Errorf("got %q, %v", out, err)
	}
}
