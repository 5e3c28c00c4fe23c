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
var notNeeded = []string{"debconf", "dpkg", "install-info", "mawk", "base-files", "debianutils", "passwd", "readline-common", "libc-bin"}

// documentation is of no use in an image.
var documentation = []string{"usr/share/doc", "usr/share/man", "usr/share/info", "usr/share/locale", "usr/share/lintian", "usr/share/bash-completion"}

// unpackPackages puts Debian packages into a tree, with those they depend on.
// What is in the directory from an earlier time is not fetched again.
func unpackPackages(ctx context.Context, t *tree, dir string, names ...string) error {
	all, err := dependencies(ctx, names)
	if err != nil {
		return err
	}
	archives, err := fetch(ctx, dir, all)
	if err != nil {
		return err
	}
	for _, archive := range archives {
		if err := unpackPackage(ctx, t, archive); err != nil {
			return fmt.Errorf("unpack %s: %w", archive, err)
		}
	}
	return nil
}

// fetch returns the packages' archives, in the same order.
func fetch(ctx context.Context, dir string, names []string) ([]string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	found := func(name string) string {
		paths, _ := filepath.Glob(filepath.Join(dir, name+"_*.deb")) // errs only on a bad pattern
		if len(paths) == 0 {
			return ""
		}
		return paths[len(paths)-1]
	}
	missing := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return found(name) != "" })
	if len(missing) > 0 {
		cmd := exec.CommandContext(ctx, "apt-get", append([]string{"download", "-q", "-o", "APT::Sandbox::User=root"}, missing...)...)
		cmd.Dir = dir
		if said, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%s: %w: %s (apt-get update may help)", cmd, err, said)
		}
	}
	var archives []string
	for _, name := range names {
		archives = append(archives, found(name))
	}
	return archives, nil
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
	cmd := exec.CommandContext(ctx, "apt-cache", append([]string{"depends", "--important", "--recurse"}, names...)...)
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w (apt-get update may help)", cmd, err)
	}
	needed := readDependencies(string(out))
	all := slices.Clone(names)
	for i := 0; i < len(all); i++ {
		for _, name := range needed[all[i]] {
			if !slices.Contains(all, name) && !slices.Contains(notNeeded, name) {
				all = append(all, name)
			}
		}
	}
	slices.Sort(all)
	return all, nil
}

// readDependencies reads what apt-cache says: for each package its name, and then
// lines "  Depends: NAME", with a bar in front where the next such line has
// another that would do instead.
func readDependencies(said string) map[string][]string {
	needed := map[string][]string{}
	of, instead := "", false
	for line := range strings.Lines(said) {
		if line[0] != ' ' {
			of, instead = strings.TrimSpace(line), false
			continue
		}
		kind, name, found := strings.Cut(strings.TrimSpace(line), ": ")
		kind, more := strings.CutPrefix(kind, "|")
		if !found || kind != "Depends" && kind != "PreDepends" {
			continue
		}
		if !instead && !strings.HasPrefix(name, "<") {
			needed[of] = append(needed[of], name)
		}
		instead = more
	}
	return needed
}
