package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// suiteModule requires what upstream's programs are built from.
const suiteModule = "e2e/conformance/suite"

// upstream is the release whose suite it is; its programs say so.
const upstream = "v1.36.3"

// stamp is what a release build of upstream says of itself.
const stamp = "-s -w -X k8s.io/component-base/version.gitVersion=" + upstream +
	" -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36"

// program is an executable that is built from the suite's module.
type program struct {
	name    string // in build/conformance
	test    bool   // it is the test of a package
	pkg     string
	ldflags string
}

// The first four run here, the others in images.
var programs = []program{
	{name: "e2e.test", test: true, pkg: "k8s.io/kubernetes/test/e2e", ldflags: stamp},
	{name: "ginkgo", pkg: "github.com/onsi/ginkgo/v2/ginkgo", ldflags: "-s -w"},
	{name: "kubectl", pkg: "k8s.io/kubernetes/cmd/kubectl", ldflags: stamp},
	{name: "agnhost", pkg: "k8s.io/kubernetes/test/images/agnhost", ldflags: "-s -w"},
	{name: "nonewprivs", pkg: "k8s.io/kubernetes/test/images/nonewprivs", ldflags: "-s -w"},
	{name: "sample-apiserver", pkg: "k8s.io/sample-apiserver", ldflags: stamp},
	{name: "etcd", pkg: "go.etcd.io/etcd/server/v3", ldflags: "-s -w"},
}

// buildPrograms builds those that are missing or whose module has changed.
func buildPrograms(ctx context.Context, p place, out io.Writer) error {
	version, err := exec.CommandContext(ctx, "go", "version").Output()
	if err != nil {
		return err
	}
	module, err := contents(filepath.Join(p.root, suiteModule, "go.mod"), filepath.Join(p.root, suiteModule, "go.sum"))
	if err != nil {
		return err
	}
	for _, g := range programs {
		inputs := digest(version, module, fmt.Append(nil, g))
		err := cached(p, g.name, inputs, func(to string) error {
			fmt.Fprintf(out, "building %s …\n", g.name)
			return g.build(ctx, p, to)
		})
		if err != nil {
			return fmt.Errorf("build %s: %w", g.name, err)
		}
	}
	return nil
}

func (g program) build(ctx context.Context, p place, to string) error {
	args := []string{"build"}
	if g.test {
		args = []string{"test", "-c", "-vet=off"} // it is not ours
	}
	args = append(args, "-trimpath", "-buildvcs=false", "-ldflags", g.ldflags, "-o", to, g.pkg)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = filepath.Join(p.root, suiteModule)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=readonly", "GOWORK=off")
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, said)
	}
	return nil
}

// cached has make write a file of build/conformance, unless the one that is
// there was made from the same inputs.
func cached(p place, name, inputs string, make func(to string) error) error {
	to, note := p.built(name), p.built("."+name+".inputs")
	if was, err := os.ReadFile(note); err == nil && string(was) == inputs {
		if _, err := os.Stat(to); err == nil {
			return nil
		}
	}
	if err := os.Remove(note); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	if err := make(to); err != nil {
		return err
	}
	return os.WriteFile(note, []byte(inputs), 0o644)
}

func digest(parts ...[]byte) string {
	h := sha256.New()
	for _, part := range parts {
		fmt.Fprintf(h, "%d\n", len(part))
		h.Write(part)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// contents are those of files, one after the other.
func contents(paths ...string) ([]byte, error) {
	var all []byte
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		all = append(all, data...)
	}
	return all, nil
}
