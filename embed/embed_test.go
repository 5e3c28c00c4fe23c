package embed_test

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/skiff-sh/skiff/embed"
)

func TestUnpack(t *testing.T) {
	dir := t.TempDir()
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if _, err := embed.Unpack(dir, embed.Runc); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	path, err := embed.Unpack(dir, embed.Runc)
	if err != nil {
		t.Fatalf("%v (scripts/build-helpers.sh builds what is carried)", err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	if want := filepath.Join(dir, hex.EncodeToString(sum[:]), "runc"); path != want {
		t.Errorf("unpacked to %s: expected %s", path, want)
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
		t.Errorf("%v beside the helper: expected nothing", entries)
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := embed.Unpack(dir, embed.Runc); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) || !after.ModTime().Equal(before.ModTime()) {
		t.Error("a helper that is there was written again")
	}
	out, err := exec.Command(path, "--version").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "runc version "+embed.Version(embed.Runc)) || !strings.Contains(string(out), "libseccomp") {
		t.Errorf("%s, %v: expected version %s with seccomp", out, err, embed.Version(embed.Runc))
	}
	if _, err := embed.Unpack(dir, "nosuch"); !errors.Is(err, embed.ErrNotCarried) {
		t.Errorf("a helper that is not carried: %v", err)
	}
}

func TestKubectl(t *testing.T) {
	path, err := embed.Unpack(t.TempDir(), embed.Kubectl)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(path, "version", "--client").CombinedOutput()
	if want := "Client Version: " + embed.Version(embed.Kubectl) + "\n"; err != nil || !strings.HasPrefix(string(out), want) {
		t.Errorf("%s, %v: expected %s", out, err, want)
	}
}

func TestHello(t *testing.T) {
	archive, err := embed.Hello()
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	files := map[string]int64{}
	for r := tar.NewReader(archive); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		files[h.Name] = h.Size
	}
	if files["index.json"] == 0 || files["oci-layout"] == 0 || len(files) != 5 {
		t.Errorf("files %v: expected an OCI layout of three blobs", files)
	}
}
