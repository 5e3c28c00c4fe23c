package main

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/skiff-sh/skiff/internal/netns"
)

// mirrorAddress is where each node finds the mirror: on its own loopback, which Pods
// do not see.
const mirrorAddress = "127.0.0.1:5000"

// mirrorSettings are the nodes' registries.yaml.
const mirrorSettings = `mirrors:
  registry.k8s.io:
    endpoint: ["http://` + mirrorAddress + `"]
`

// mirror is a registry that has the images of an archive, for those that must always
// be pulled. It reads them from the archive as they are asked for.
type mirror struct {
	file  *os.File
	blobs map[string]part          // by digest
	tags  map[string]v1.Descriptor // by name and tag, or digest
}

// part is a piece of the archive.
type part struct{ offset, size int64 }

// openMirror finds the images in an archive of writeImages.
func openMirror(archive string) (*mirror, error) {
	file, err := os.Open(archive)
	if err != nil {
		return nil, err
	}
	m := &mirror{file: file, blobs: map[string]part{}, tags: map[string]v1.Descriptor{}}
	if err := m.index(); err != nil {
		return nil, errors.Join(fmt.Errorf("read %s: %w", archive, err), file.Close())
	}
	return m, nil
}

func (m *mirror) index() error {
	r := tar.NewReader(m.file)
	for {
		h, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if path.Base(h.Name) == "index.json" {
			if err := m.name(r); err != nil {
				return err
			}
		}
		offset, err := m.file.Seek(0, io.SeekCurrent) // the archive is not sparse: here the content begins
		if err != nil {
			return err
		}
		if algorithm, hex, ok := strings.Cut(strings.TrimPrefix(h.Name, "blobs/"), "/"); ok {
			m.blobs[algorithm+":"+hex] = part{offset, h.Size}
		}
	}
}

func (m *mirror) name(index io.Reader) error {
	var all v1.IndexManifest
	if err := json.NewDecoder(index).Decode(&all); err != nil {
		return err
	}
	for _, d := range all.Manifests {
		if name := d.Annotations["io.containerd.image.name"]; name != "" {
			m.tags[name] = d
		}
		m.tags[d.Digest.String()] = d
	}
	return nil
}

// ServeHTTP answers what one asks a registry who pulls.
func (m *mirror) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	below, ok := strings.CutPrefix(r.URL.Path, "/v2/")
	switch {
	case !ok:
		http.NotFound(w, r)
		return
	case below == "":
		return
	}
	repository, digest, isBlob := strings.Cut(below, "/blobs/")
	if !isBlob {
		name, reference, _ := strings.Cut(below, "/manifests/")
		d, ok := m.tags[reference]
		if !ok {
			d, ok = m.tags[registry+name+":"+reference]
		}
		if !ok {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}`)
			return
		}
		repository, digest = name, d.Digest.String()
		w.Header().Set("Content-Type", string(d.MediaType))
		w.Header().Set("Docker-Content-Digest", digest)
	} else {
		w.Header().Set("Content-Type", "application/octet-stream")
	}
	p, ok := m.blobs[digest]
	if !ok || repository == "" || r.Method != http.MethodGet && r.Method != http.MethodHead {
		http.NotFound(w, r)
		return
	}
	http.ServeContent(w, r, "", time.Time{}, io.NewSectionReader(m.file, p.offset, p.size))
}

// serveMirror has every node reach the archive's images as registry.k8s.io's.
func (c *cluster) serveMirror() error {
	m, err := openMirror(c.built(archive))
	if err != nil {
		return err
	}
	c.mirror = &http.Server{Handler: m}
	c.closers = append(c.closers, c.mirror.Close, m.file.Close)
	for _, node := range nodes {
		var l net.Listener
		err := netns.Do(filepath.Join(c.dir(), "net", node), func() (err error) {
			l, err = net.Listen("tcp", mirrorAddress)
			return err
		})
		if err != nil {
			return fmt.Errorf("serve the images to %s: %w", node, err)
		}
		c.serving.Go(func() { _ = c.mirror.Serve(l) }) // it ends when the mirror is closed
	}
	return nil
}

// stopMirror ends what serveMirror began.
func (c *cluster) stopMirror() error {
	var errs []error
	for _, closer := range c.closers {
		errs = append(errs, closer())
	}
	c.closers = nil
	c.serving.Wait()
	return errors.Join(errs...)
}
