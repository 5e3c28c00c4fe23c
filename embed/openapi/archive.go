package openapi

import (
	"bytes"
	"crypto/sha512"
	"fmt"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// Archive holds all documents, each part of them once. Both its files are lines
// compressed with zstd.
type Archive struct {
	// Documents are the documents of version 3, one after the other. A line "= NAME"
	// begins one; "/PATH JSON" is one of its paths, "SCHEMA" one of its schemas, and
	// "SCHEMA JSON" a schema that says something else in this document than in others.
	Documents []byte
	// Schemas are "SCHEMA JSON", all there are.
	Schemas []byte
}

// part is a named part of a document: a path or a schema.
type part struct {
	name string
	data []byte // JSON of version 3, or what it is in the document's form
}

// Index returns the index of the archive's documents.
func (a *Archive) Index() ([]byte, error) {
	lines, err := unpack(a.Documents)
	if err != nil {
		return nil, err
	}
	names := []string{Swagger}
	for line := range bytes.Lines(lines) {
		if name, ok := bytes.CutPrefix(bytes.TrimSpace(line), []byte("= ")); ok {
			names = append(names, string(name))
		}
	}
	var index bytes.Buffer
	for _, name := range names {
		data, err := a.Document(name, false)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&index, "%s %X\n", name, sha512.Sum512(data))
	}
	return index.Bytes(), nil
}

// parts returns the paths and schemas of one document, all there are for version 2.
func (a *Archive) parts(name string) (paths, schemas []part, err error) {
	documents, err := unpack(a.Documents)
	if err != nil {
		return nil, nil, err
	}
	found := name == Swagger
	inside := found
	own := map[string][]byte{} // the document's schemas; nil: as in the others
	for line := range bytes.Lines(documents) {
		p := cutPart(line)
		switch {
		case p.name == "=":
			inside = name == Swagger || string(p.data) == name
			found = found || inside
		case !inside:
		case strings.HasPrefix(p.name, "/"):
			paths = append(paths, p)
		default:
			own[p.name] = p.data
		}
	}
	if !found {
		return nil, nil, fmt.Errorf("there is none of that name")
	}
	all, err := unpack(a.Schemas)
	if err != nil {
		return nil, nil, err
	}
	for line := range bytes.Lines(all) {
		p := cutPart(line)
		data, ok := own[p.name]
		if ok && data != nil && name != Swagger {
			p.data = data
		}
		if ok {
			schemas = append(schemas, p)
		}
	}
	return paths, schemas, nil
}

func cutPart(line []byte) part {
	name, data, _ := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte(" "))
	return part{string(name), data}
}

func unpack(packed []byte) ([]byte, error) {
	reader, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	return reader.DecodeAll(packed, nil)
}
