// Package box makes the image that end-to-end tests run: busybox with all its
// commands, and the program of package box/program, which serves and asks over
// TCP, HTTP, UDP and DNS.
//
// Write makes the archive. The image is the same wherever it is made, for this
// machine's architecture, and comes from no registry. The package knows nothing
// of a cluster.
package box

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Image is the image's name.
const Image = "example.org/box:1"

// Write builds the program and writes the image's archive, box.tar, into the
// directory. It returns the archive's path.
func Write(dir string) (string, error) {
	program := filepath.Join(dir, "box")
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", program,
		"github.com/skiff-sh/skiff/e2e/box/program")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", build, err, out)
	}
	image, err := contents(program)
	if err != nil {
		return "", err
	}
	tag, err := name.NewTag(Image)
	if err != nil {
		return "", err
	}
	archive := filepath.Join(dir, "box.tar")
	return archive, tarball.WriteToFile(archive, tag, image)
}

func contents(program string) (v1.Image, error) {
	list, err := exec.Command("busybox", "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("list busybox's commands (install busybox-static): %w", err)
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	w := &layerWriter{tar: tar.NewWriter(&buf)}
	for _, dir := range []string{"bin", "etc", "tmp", "var", "data"} {
		w.directory(dir)
	}
	w.copy("bin/busybox", busybox)
	w.copy("bin/box", program)
	for _, command := range strings.Fields(string(list)) {
		if command != "busybox" {
			w.link("bin/"+command, "busybox")
		}
	}
	w.file("etc/passwd", 0o644, []byte("root:x:0:0:root:/:/bin/sh\napp:x:1234:4321::/data:/bin/sh\n"))
	w.file("etc/group", 0o644, []byte("root:x:0:\napp:x:4321:\nextra:x:555:app\n"))
	if w.err == nil {
		w.err = w.tar.Close()
	}
	if w.err != nil {
		return nil, w.err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil })
	if err != nil {
		return nil, err
	}
	platform, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: runtime.GOOS, Architecture: runtime.GOARCH})
	if err != nil {
		return nil, err
	}
	image, err := mutate.AppendLayers(platform, layer)
	if err != nil {
		return nil, err
	}
	return mutate.Config(image, v1.Config{
		Env: []string{"PATH=/bin", "FROM_IMAGE=yes"}, Cmd: []string{"box", "serve"}, WorkingDir: "/data",
	})
}

// layerWriter writes a layer's files and keeps the first error.
type layerWriter struct {
	tar *tar.Writer
	err error
}

func (w *layerWriter) add(h tar.Header, data []byte) {
	h.Size = int64(len(data))
	if w.err == nil {
		w.err = w.tar.WriteHeader(&h)
	}
	if w.err == nil {
		_, w.err = w.tar.Write(data)
	}
}

func (w *layerWriter) file(path string, mode int64, data []byte) {
	w.add(tar.Header{Name: path, Typeflag: tar.TypeReg, Mode: mode}, data)
}

func (w *layerWriter) directory(path string) {
	w.add(tar.Header{Name: path, Typeflag: tar.TypeDir, Mode: 0o777}, nil)
}

func (w *layerWriter) link(path, target string) {
	w.add(tar.Header{Name: path, Typeflag: tar.TypeSymlink, Linkname: target, Mode: 0o777}, nil)
}

func (w *layerWriter) copy(path, from string) {
	data, err := os.ReadFile(from)
	if err != nil && w.err == nil {
		w.err = err
	}
	w.file(path, 0o755, data)
}
