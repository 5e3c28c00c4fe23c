// Command image writes the hello image: an OCI archive with one layer that
// holds one executable. The same executable gives the same archive, byte by
// byte. Layers stay uncompressed since the archive is compressed as a whole.
package main

import (
	"archive/tar"
	"bytes"
	_ "crypto/sha256" // which go-digest uses by name
	"encoding/json"
	"flag"
	"fmt"
	"os"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func main() {
	arch := flag.String("arch", "amd64", "architecture of the executable")
	name := flag.String("name", "", "full name of the image, with its tag")
	flag.Parse()
	if flag.NArg() != 2 {
		fmt.Fprintln(os.Stderr, "usage: image -arch ARCH -name NAME EXECUTABLE ARCHIVE")
		os.Exit(2)
	}
	if err := write(*arch, *name, flag.Arg(0), flag.Arg(1)); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func write(arch, name, executable, archive string) error {
	program, err := os.ReadFile(executable)
	if err != nil {
		return err
	}
	layer, err := tarOf(file{"hello", program, 0o755})
	if err != nil {
		return err
	}
	config, err := json.Marshal(ocispec.Image{
		Platform: ocispec.Platform{Architecture: arch, OS: "linux"},
		Config: ocispec.ImageConfig{
			User:         "65532:65532",
			Entrypoint:   []string{"/hello"},
			ExposedPorts: map[string]struct{}{"8080/tcp": {}},
			WorkingDir:   "/",
		},
		RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromBytes(layer)}},
	})
	if err != nil {
		return err
	}
	manifest, err := json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    descriptor(ocispec.MediaTypeImageConfig, config),
		Layers:    []ocispec.Descriptor{descriptor(ocispec.MediaTypeImageLayer, layer)},
	})
	if err != nil {
		return err
	}
	entry := descriptor(ocispec.MediaTypeImageManifest, manifest)
	entry.Platform = &ocispec.Platform{Architecture: arch, OS: "linux"}
	entry.Annotations = map[string]string{
		"io.containerd.image.name": name,
		ocispec.AnnotationRefName:  name[bytes.LastIndexByte([]byte(name), ':')+1:],
	}
	index, err := json.Marshal(ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageIndex,
		Manifests: []ocispec.Descriptor{entry},
	})
	if err != nil {
		return err
	}
	data, err := tarOf(
		file{"oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644},
		file{"index.json", index, 0o644},
		blob(manifest), blob(config), blob(layer),
	)
	if err != nil {
		return err
	}
	return os.WriteFile(archive, data, 0o644)
}

type file struct {
	name string
	data []byte
	mode int64
}

func blob(data []byte) file {
	return file{"blobs/sha256/" + digest.FromBytes(data).Encoded(), data, 0o644}
}

func descriptor(mediaType string, data []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
}

// tarOf leaves times at zero, so that the result depends on the content alone.
func tarOf(files ...file) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.data)), Format: tar.FormatUSTAR}); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
