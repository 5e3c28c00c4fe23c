// Package openapi carries the OpenAPI documents of the API, as the build has made
// them (scripts/openapi.sh): one of version 3 for each group-version and for what
// is served besides, and one of version 2 for all of it.
//
// Nothing is carried twice. The archive (archive.go) holds each path and each
// schema once, in the JSON of version 3; a document is put together when it is
// asked for (document.go), in version 2 by rewriting it (swagger.go), and as
// protobuf by encoding it (protobuf.go, layouts.go). The invariant: a document's
// hash changes exactly when its content does. A program built without the
// documents has none, and compiles all the same. The package keeps nothing
// unpacked in memory, and does not know who asks.
package openapi

import (
	"embed"
	"fmt"
	"slices"
	"strings"
	"sync"
)

//go:embed all:data
var files embed.FS

// The files of the archive in the directory data.
const (
	DocumentsFile = "documents.zst" // see Archive.Documents
	SchemasFile   = "schemas.zst"   // see Archive.Schemas
	IndexFile     = "index"         // lines of a document's name and its hash
)

// Swagger is the name of the document of version 2.
const Swagger = "v2"

// Documents are the carried documents. They may be used by several at once.
type Documents struct {
	names func() map[string]string
	// making lets one document be put together at a time: it takes some times the
	// document's size.
	making sync.Mutex
}

// New returns the carried documents.
func New() *Documents { return &Documents{names: sync.OnceValue(hashes)} }

// hashes returns each document's hash by its name.
func hashes() map[string]string {
	found := map[string]string{}
	index, err := files.ReadFile("data/" + IndexFile)
	if err != nil {
		return found // built without
	}
	for line := range strings.Lines(string(index)) {
		name, hash, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		found[name] = hash
	}
	return found
}

// Names lists the documents by their paths below /openapi, in order: "v2",
// "v3/api/v1", "v3/apis/apps/v1".
func (d *Documents) Names() []string {
	var all []string
	for name := range d.names() {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

// Hash identifies a document's content; "" if there is no such document.
func (d *Documents) Hash(name string) string { return d.names()[name] }

// Document puts a document together, as JSON or as gnostic's protobuf. It fails for
// names that Names does not have.
func (d *Documents) Document(name string, protobuf bool) ([]byte, error) {
	d.making.Lock()
	defer d.making.Unlock()
	var archive Archive
	var err error
	if archive.Documents, err = files.ReadFile("data/" + DocumentsFile); err != nil {
		return nil, fmt.Errorf("read OpenAPI documents: %w", err)
	}
	if archive.Schemas, err = files.ReadFile("data/" + SchemasFile); err != nil {
		return nil, fmt.Errorf("read OpenAPI schemas: %w", err)
	}
	data, err := archive.Document(name, protobuf)
	if err != nil {
		return nil, fmt.Errorf("put OpenAPI document %s together: %w", name, err)
	}
	return data, nil
}
