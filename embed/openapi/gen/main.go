//go:build openapi

// Command gen builds the OpenAPI documents that the executable carries: one for
// each group-version, from the types of k8s.io/api (package definitions is
// kube-openapi's generated reading of them) and from what package rest serves,
// and those of what is served besides.
//
// A document is paths (path.go, besides.go), their operations (operation.go),
// and the schemas these refer to (schema.go); archive.go writes all of them. The
// invariant: a resource's path is there if and only if discovery names it. It
// never runs outside the build.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/rest"
)

func main() {
	out := flag.String("o", "../data", "directory to write the archive to")
	flag.Parse()
	if err := run(*out); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

// run writes the archive of package openapi.
func run(out string) error {
	schemas := newSchemas(kind.Scheme())
	lists := rest.Discovery(kind.All)
	builders := besides(lists, schemas)
	for _, list := range lists {
		builders = append(builders, newBuilder(list, schemas))
	}
	return writeArchive(out, builders, schemas)
}
