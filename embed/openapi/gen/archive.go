//go:build openapi

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/skiff-sh/skiff/embed/openapi"
)

// writeArchive writes what builders have built.
func writeArchive(out string, builders []*builder, s *schemas) error {
	slices.SortFunc(builders, func(a, b *builder) int { return strings.Compare(a.name, b.name) })
	var documents, all bytes.Buffer
	used := map[string]bool{}
	for _, b := range builders {
		b.build()
		fmt.Fprintf(&documents, "= v3/%s\n", b.name)
		for _, path := range slices.Sorted(maps.Keys(b.paths)) {
			fmt.Fprintf(&documents, "%s %s\n", path, plainJSON(b.paths[path]))
		}
		for _, name := range slices.Sorted(maps.Keys(b.used)) {
			used[name] = true
			if s.differs(name) {
				fmt.Fprintf(&documents, "%s %s\n", name, plainJSON(s.schema(name, b.gv.Group, b.gv.Version)))
				continue
			}
			fmt.Fprintln(&documents, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(used)) {
		fmt.Fprintf(&all, "%s %s\n", name, plainJSON(s.schema(name)))
	}
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(8<<20))
	if err != nil {
		return err
	}
	archive := openapi.Archive{Documents: encoder.EncodeAll(documents.Bytes(), nil), Schemas: encoder.EncodeAll(all.Bytes(), nil)}
	index, err := archive.Index()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	for name, data := range map[string][]byte{
		openapi.DocumentsFile: archive.Documents, openapi.SchemasFile: archive.Schemas, openapi.IndexFile: index,
	} {
		if err := os.WriteFile(filepath.Join(out, name), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// plainJSON is a value's JSON with sorted keys and no more escapes than needed.
func plainJSON(value any) []byte {
	data, err := json.Marshal(value)
	if err == nil {
		err = json.Unmarshal(data, &value)
	}
	if err != nil {
		panic(err) // everything here was made to become JSON
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		panic(err)
	}
	return bytes.TrimSpace(out.Bytes())
}
