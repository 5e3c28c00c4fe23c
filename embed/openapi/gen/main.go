//go:build openapi

// Command gen builds the OpenAPI v3 documents that the executable carries: one
// for each group-version, from the types of k8s.io/api (package definitions is
// kube-openapi's generated reading of them) and from what package rest serves.
//
// A document is paths (path.go), their operations (operation.go), and the
// schemas these refer to (schema.go). The invariant: a path is there if and
// only if discovery names it. It never runs outside the build.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	openapiv3 "github.com/google/gnostic-models/openapiv3"
	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/proto"
	"k8s.io/kube-openapi/pkg/spec3"

	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/rest"
)

func main() {
	out := flag.String("o", "../data", "directory to write the documents to")
	flag.Parse()
	if err := run(*out); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

// run writes NAME.json.zst and NAME.pb.zst for each group-version, NAME being
// the document's path with underscores for slashes.
func run(out string) error {
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	schemas := newSchemas(kind.Scheme())
	for _, list := range rest.Discovery(kind.All) {
		b := newBuilder(list, schemas)
		doc := b.document()
		if err := write(out, b.name(), doc); err != nil {
			return fmt.Errorf("%s: %w", b.name(), err)
		}
	}
	return nil
}

func write(out, name string, doc *spec3.OpenAPI) error {
	text, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	parsed, err := openapiv3.ParseDocument(text)
	if err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	binary, err := proto.MarshalOptions{Deterministic: true}.Marshal(parsed)
	if err != nil {
		return err
	}
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	base := filepath.Join(out, strings.ReplaceAll(name, "/", "_"))
	if err := os.WriteFile(base+".json.zst", encoder.EncodeAll(text, nil), 0o644); err != nil {
		return err
	}
	return os.WriteFile(base+".pb.zst", encoder.EncodeAll(binary, nil), 0o644)
}
