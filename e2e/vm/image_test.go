//go:build vm

package vm

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"os/exec"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// writeBox writes the archive of example.org/box:1: busybox with its commands.
func writeBox(path string) error {
	list, err := exec.Command("busybox", "--list").Output()
	if err != nil {
		return err
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return err
	}
	program, err := os.ReadFile(busybox)
	if err != nil {
		return err
	}
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	headers := []tar.Header{
		{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777}, {Name: "bin/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "bin/busybox", Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(program))},
	}
	for _, command := range strings.Fields(string(list)) {
		if command != "busybox" {
			headers = append(headers, tar.Header{Name: "bin/" + command, Typeflag: tar.TypeSymlink, Linkname: "busybox", Mode: 0o777})
		}
	}
	for _, h := range headers {
		if err := w.WriteHeader(&h); err != nil {
			return err
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := w.Write(program); err != nil {
				return err
			}
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return writeImage(path, &layer)
}

func writeImage(path string, layer *bytes.Buffer) error {
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer.Bytes())), nil })
	if err != nil {
		return err
	}
	image, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{
		OS: "linux", Architecture: "amd64", Config: v1.Config{Env: []string{"PATH=/bin"}},
	})
	if err != nil {
		return err
	}
	if image, err = mutate.AppendLayers(image, l); err != nil {
		return err
	}
	tag, err := name.NewTag("example.org/box:1")
	if err != nil {
		return err
	}
	return tarball.WriteToFile(path, tag, image)
}
