package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// notNeeded are what Debian's packages depend on to be installed, and not to run.
var notNeeded = []string{"debconf", "dpkg", "install-info", "mawk", "base-files", "debianutils", "readline-common", "libc-bin"}

// documentation is of no use in an image.
var documentation = []string{"usr/share/doc", "usr/share/man", "usr/share/info", "usr/share/locale", "usr/share/lintian", "usr/share/bash-completion"}

// unpackPackages puts Debian packages into a tree, with those they depend on.
func unpackPackages(ctx context.Context, t *tree, dir string, names ...string) error {
	all, err := dependencies(ctx, names)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	fetch := exec.CommandContext(ctx, "apt-get", append([]string{"download", "-q", "-o", "APT::Sandbox::User=root"}, all...)...)
	fetch.Dir = dir
	if said, err := fetch.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s (apt-get update may help)", fetch, err, said)
	}
	for _, name := range all {
		found, err := filepath.Glob(filepath.Join(dir, name+"_*.deb"))
		if err != nil || len(found) == 0 {
			return fmt.Errorf("find the package %s in %s: %v", name, dir, err)
		}
		// The newest, where an earlier build has left another.
		if err := unpackPackage(ctx, t, found[len(found)-1]); err != nil {
			return fmt.Errorf("unpack %s: %w", name, err)
		}
	}
	return nil
}

func unpackPackage(ctx context.Context, t *tree, archive string) error {
	cmd := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", archive)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	if err := t.unpack(out, documentation...); err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return err
	}
	return cmd.Wait()
}

// dependencies are those packages and all that they need, the first where one of
// several would do, in the order of their names.
func dependencies(ctx context.Context, names []string) ([]string, error) {
	all := slices.Clone(names)
	for i := 0; i < len(all); i++ {
		out, err := exec.CommandContext(ctx, "apt-cache", "depends", "--important", all[i]).Output()
		if err != nil {
			return nil, fmt.Errorf("apt-cache depends %s: %w (apt-get update may help)", all[i], err)
		}
		for _, name := range needed(string(out)) {
			if !slices.Contains(all, name) && !slices.Contains(notNeeded, name) {
				all = append(all, name)
			}
		}
	}
	slices.Sort(all)
	return all, nil
}

// needed reads what apt-cache says of a package: "  Depends: NAME", with a bar in
// front where the next line has another that would do instead.
func needed(said string) []string {
	var names []string
	instead := false
	for line := range strings.Lines(said) {
		kind, name, found := strings.Cut(strings.TrimSpace(line), ": ")
		kind, more := strings.CutPrefix(kind, "|")
		if !found || kind != "Depends" && kind != "PreDepends" {
			continue
		}
		if !instead && !strings.HasPrefix(name, "<") {
			names = append(names, name)
		}
		instead = more
	}
	return names
}
