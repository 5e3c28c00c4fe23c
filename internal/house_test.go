package internal_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/skiff-sh/skiff/"

// rooms gives each package below internal/ its floor. A package imports only
// floors below its own, its own parent and its own children.
var rooms = map[string]int{
	"version": 0, "config": 0, "pki": 0, "store": 0, "local": 0, "netns": 0,
	"snapshot": 1, "kind": 1, "uplink": 1, "checkpoint": 1, "nft": 1, "userns": 1,
	"state": 2, "export": 2,
	"auth": 3, "admission": 3,
	"api": 4, "tunnel": 4,
	"rest": 5, "controller": 5, "scheduler": 5,
	"agent": 6, "network": 6, "dns": 6,
	"join": 7,
	"node": 8, "hollow": 8, "server": 8,
	"cli": 9,
}

// reasons are told with a broken rule.
const (
	whyDown  = "imports point down the floors, so that each can be read and tested without what stands on it"
	whyNode  = "a node knows the cluster only through the API over TLS, so that it is the same on every machine"
	whyHouse = "siblings are joined by server and node alone, so that each part can be replaced"
	whyKube  = "upstream's servers are not part of the product: we are their peer, and they would double its size"
)

// foreign are the imports that are forbidden everywhere, with the exceptions.
var foreign = []struct{ prefix, why string }{
	{"k8s.io/kubernetes", whyKube},
	{"k8s.io/apiserver", whyKube},
	{"k8s.io/kubectl", "kubectl pulls in text/template and with it the end of dead-code elimination: it is carried as a helper"},
}

type source struct {
	pkg     string // below internal/, "agent/image"
	file    string
	imports []string
	doc     bool
	test    bool
}

func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.Contains(path, "testdata") {
			return err
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		all = append(all, source{
			pkg: filepath.ToSlash(filepath.Dir(path)), file: path,
			imports: paths(parsed.Imports), doc: parsed.Doc != nil,
			test: strings.HasSuffix(path, "_test.go"),
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func paths(specs []*ast.ImportSpec) []string {
	out := make([]string, len(specs))
	for i, s := range specs {
		out[i], _ = strconv.Unquote(s.Path.Value)
	}
	return out
}

func room(pkg string) string {
	name, _, _ := strings.Cut(pkg, "/")
	return name
}

// edge returns why pkg may not import target (both below internal/), or "".
func edge(pkg, target string) string {
	from, to := rooms[room(pkg)], rooms[room(target)]
	switch {
	case room(pkg) == room(target):
		if pkg == target || strings.HasPrefix(pkg, target+"/") || strings.HasPrefix(target, pkg+"/") {
			return ""
		}
		return whyHouse
	case room(pkg) == "server" && target == "node": // the server runs the node of its own machine
		return ""
	case to >= from:
		return whyDown
	case from == 6 && to >= 2:
		return whyNode
	}
	return ""
}

func TestImportsFollowThePlan(t *testing.T) {
	for _, s := range sources(t) {
		if _, known := rooms[room(s.pkg)]; !known && s.pkg != "." {
			t.Errorf("%s: room %q is not in the plan: add it to rooms with its floor", s.file, room(s.pkg))
			continue
		}
		for _, path := range s.imports {
			for _, f := range foreign {
				if path == f.prefix || strings.HasPrefix(path, f.prefix+"/") {
					t.Errorf("%s imports %s: %s", s.file, path, f.why)
				}
			}
			target, ours := strings.CutPrefix(path, module+"internal/")
			if !ours || s.test || s.pkg == "." {
				continue
			}
			if why := edge(s.pkg, target); why != "" {
				t.Errorf("%s imports %s: %s", s.file, target, why)
			}
		}
	}
}

func TestEdges(t *testing.T) {
	for _, c := range []struct {
		from, to string
		allowed  bool
	}{
		{"state", "store", true}, {"store", "state", false}, {"agent", "agent/image", true},
		{"agent/image", "agent", true}, {"agent/image", "agent/volume", false}, {"agent", "network/pod", false},
		{"agent", "api", false}, {"agent", "config", true}, {"dns", "kind", true}, {"dns", "state", false},
		{"controller/deployment", "controller", true}, {"controller/deployment", "controller/replicaset", false},
		{"controller/deployment", "api", true}, {"rest", "scheduler", false}, {"server", "node", true}, {"node", "server", false},
	} {
		if got := edge(c.from, c.to) == ""; got != c.allowed {
			t.Errorf("%s → %s allowed: %t, want %t", c.from, c.to, got, c.allowed)
		}
	}
}

// Every package says once what it is for.
func TestPackageComments(t *testing.T) {
	docs := map[string][]string{}
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		if _, seen := docs[s.pkg]; !seen {
			docs[s.pkg] = nil
		}
		if s.doc {
			docs[s.pkg] = append(docs[s.pkg], s.file)
		}
	}
	for pkg, files := range docs {
		if len(files) != 1 {
			t.Errorf("package %s has %d package comments, want one: %s", pkg, len(files), fmt.Sprint(slices.Compact(files)))
		}
	}
}

// The product programs the host itself: only the helpers that it carries, kubectl for
// people, and the one compiler that there is for AppArmor's profiles, are ever executed.
func TestNothingRunsHostTools(t *testing.T) {
	allowed := map[string]bool{
		"agent/containerd/apparmor.go": true, // compiles a profile: the kernel takes no text
		"agent/containerd/pod.go":      true, // starts the carried shim
		"agent/containerd/remove.go":   true, // calls the carried runc
		"netns/netnstest/netnstest.go": true, // for tests only: runs them in a namespace, and nft as a witness
	}
	for _, s := range sources(t) {
		if !s.test && slices.Contains(s.imports, "os/exec") && !allowed[s.file] {
			t.Errorf("%s imports os/exec: skiff uses netlink, system calls and client libraries", s.file)
		}
	}
}
