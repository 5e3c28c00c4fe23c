package internal_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"strings"
	"testing"
)

var pathLine = regexp.MustCompile(`(?m)^//\t(\S+\.go)\s+(.+)$`)

// The package comment's account of a Pod's path names files and functions that
// exist.
func TestPathIsTrue(t *testing.T) {
	text, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	lines := pathLine.FindAllStringSubmatch(string(text), -1)
	if len(lines) < 20 {
		t.Fatalf("only %d lines of the path were found", len(lines))
	}
	for _, line := range lines {
		declared, err := functions(line[1])
		if err != nil {
			t.Errorf("doc.go names %s: %v", line[1], err)
			continue
		}
		for _, name := range strings.Fields(line[2]) {
			if !declared[name] {
				t.Errorf("doc.go says that the path leads through %s of %s, which has no such function", name, line[1])
			}
		}
	}
}

func functions(path string) (map[string]bool, error) {
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for _, d := range file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok {
			names[f.Name.Name] = true
		}
	}
	return names, nil
}
