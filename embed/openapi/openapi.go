// Package openapi carries the OpenAPI v3 documents of the API, compressed, as
// the build has made them (scripts/openapi.sh).
//
// Documents names them and unpacks one when it is asked for. The invariant: a
// document's hash changes exactly when its content does. A program built
// without the documents has none, and compiles all the same. The package keeps
// nothing unpacked in memory.
package openapi

import (
	"crypto/sha512"
	"embed"
	"fmt"
	"io/fs"
	"strings"
	"sync"

	"github.com/klauspost/compress/zstd"
)

//go:embed all:data
var files embed.FS

// Documents are the carried documents..
type Documents struct {
	names func() map[string]string
}

// New returns the carried documents.
func New() *Documents {
	return &Documents{names: sync.OnceValue(hashes)}
}

const (
	directory   = "data/"
	jsonEnding  = ".json.zst"
	protoEnding = ".pb.zst"
)

// hashes returns each document's hash by its name.
func hashes() map[string]string {
	found := map[string]string{}
	entries, err := fs.ReadDir(files, strings.TrimSuffix(directory, "/"))
	if err != nil {
		return found
	}
	for _, e := range entries {
		base, ok := strings.CutSuffix(e.Name(), jsonEnding)
		if !ok {
			continue
		}
		data, err := files.ReadFile(directory + e.Name())
		if err != nil {
			continue
		}
		found[strings.ReplaceAll(base, "_", "/")] = fmt.Sprintf("%X", sha512.Sum512(data))
	}
	return found
}

// Names lists the documents: "api/v1", "apis/apps/v1".
func (d *Documents) Names() []string {
	var all []string
	for name := range d.names() {
		all = append(all, name)
	}
	return all
}

// Hash identifies a document's content; "" if there is no such document.
func (d *Documents) Hash(name string) string { return d.names()[name] }

// Document unpacks a document, as JSON or as gnostic's protobuf. It fails for
// names that Names does not have.
func (d *Documents) Document(name string, protobuf bool) ([]byte, error) {
	ending := jsonEnding
	if protobuf {
		ending = protoEnding
	}
	packed, err := files.ReadFile(directory + strings.ReplaceAll(name, "/", "_") + ending)
	if err != nil {
		return nil, fmt.Errorf("read OpenAPI document %s: %w", name, err)
	}
	reader, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	data, err := reader.DecodeAll(packed, nil)
	if err != nil {
		return nil, fmt.Errorf("unpack OpenAPI document %s: %w", name, err)
	}
	return data, nil
}
