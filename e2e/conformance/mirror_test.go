package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/random"
)

func TestMirror(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "layout")
	index, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	image, err := random.Image(5000, 1)
	if err != nil {
		t.Fatal(err)
	}
	err = index.AppendImage(image, layout.WithAnnotations(map[string]string{"io.containerd.image.name": ofTests + "kitten:1.8"}))
	if err != nil {
		t.Fatal(err)
	}
	files, archive := &tree{}, filepath.Join(t.TempDir(), "images.tar")
	if err := files.copyAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := files.writeFile(archive); err != nil {
		t.Fatal(err)
	}
	m, err := openMirror(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer m.file.Close()
	server := httptest.NewServer(m)
	defer server.Close()
	get := func(path string) (int, string, http.Header) {
		answer, err := http.Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, string(body), answer.Header
	}
	digest, _ := image.Digest()
	manifest, _ := image.RawManifest()
	config, _ := image.ConfigName()
	file, _ := image.RawConfigFile()
	const repository = "/v2/e2e-test-images/kitten"
	for path, want := range map[string]string{
		"/v2/":                        "",
		repository + "/manifests/1.8": string(manifest),
		repository + "/manifests/" + digest.String(): string(manifest),
		repository + "/blobs/" + config.String():     string(file),
	} {
		if code, body, _ := get(path); code != http.StatusOK || body != want {
			t.Errorf("%s: %d %q, want %q", path, code, body, want)
		}
	}
	if _, _, header := get(repository + "/manifests/1.8"); header.Get("Docker-Content-Digest") != digest.String() || !strings.Contains(header.Get("Content-Type"), "manifest") {
		t.Errorf("the manifest has %v", header)
	}
	for _, path := range []string{repository + "/manifests/2", repository + "/blobs/sha256:00", "/v1/", "/v2/kitten"} {
		if code, _, _ := get(path); code != http.StatusNotFound {
			t.Errorf("%s: %d", path, code)
		}
	}
}
