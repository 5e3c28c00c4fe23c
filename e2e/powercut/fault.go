package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// fault is a build of the guest whose store does something that it must not.
type fault struct {
	name    string
	compact bool // shows only when there is a compaction
	edits   []edit
}

// edit replaces a text that must be there as often as it says.
type edit struct {
	pkg, file string
	old, new  string
	count     int // how often old is there, if not once
	which     int // the one to replace, from 0
}

const (
	bbolt   = "go.etcd.io/bbolt"
	ours    = "github.com/skiff-sh/skiff/internal/store/bolt"
	program = "github.com/skiff-sh/skiff/e2e/powercut/guest"

	syncs   = "if !tx.db.NoSync || common.IgnoreNoSync {"
	noSyncs = "if false {"
)

// faults are constant. bbolt syncs the pages of a transaction, then the meta
// page that leads to them, and only then has the transaction happened.
// A compaction's copy must be on disk before it gets the file's name. (That the
// name is synced, too, cannot be shown missing on ext4: before the next commit is
// acknowledged, more of the disk is asked for, and that syncs all of the journal.)
var faults = []fault{
	{name: "without the sync before the meta page", edits: []edit{{pkg: bbolt, file: "tx.go", old: syncs, new: noSyncs, count: 2, which: 0}}},
	{name: "without the sync after the meta page", edits: []edit{{pkg: bbolt, file: "tx.go", old: syncs, new: noSyncs, count: 2, which: 1}}},
	{name: "acknowledged before the sync", edits: []edit{
		{pkg: ours, file: "database.go", old: "NoSync:          noSync,", new: "NoSync: true,"},
		{pkg: ours, file: "committer.go", old: "\t\tclose(r.done)\n\t}\n\treturn nil\n", new: "\t\tclose(r.done)\n\t}\n\treturn e.db.Sync()\n"},
	}},
	{name: "renamed before the copy is synced", compact: true, edits: []edit{
		{pkg: ours, file: "compact.go", old: "c.to.NoSync, c.to.NoGrowSync = e.options.NoSync, false", new: "c.to.NoGrowSync = false"},
		{pkg: ours, file: "compact.go", old: "\treplaced := e.db\n", new: "\treplaced := e.db\n\tc.to.NoSync = e.options.NoSync\n"},
	}},
	{name: "lazy writes kept beyond their window", edits: []edit{
		{pkg: ours, file: "options.go", old: "\treturn o.LazyWindow\n", new: "\treturn 1000 * o.LazyWindow\n"},
	}},
	{name: "revisions handed out again", edits: []edit{
		{pkg: ours, file: "recover.go", old: "= found.Reserved, found.Reserved\n", new: "= found.Revision, found.Reserved\n"},
	}},
}

// build builds the guest, as it is or with a fault.
func build(ctx context.Context, to string, f *fault) error {
	args := []string{"build", "-tags", "grpcnotrace", "-o", to}
	if f != nil {
		flags, err := f.lay(ctx, to+".fault")
		if err != nil {
			return fmt.Errorf("lay a fault over the store: %w", err)
		}
		args = append(args, flags...)
	}
	command := exec.CommandContext(ctx, "go", append(args, program)...)
	command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH=amd64", "GOOS=linux")
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("build the guest: %w: %s", err, out)
	}
	return nil
}

// lay writes the edited files into an empty directory, and returns the flags
// that have go build take them.
func (f *fault) lay(ctx context.Context, dir string) (flags []string, err error) {
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	overlay := map[string]string{}
	for i, e := range f.edits {
		from, err := goList(ctx, "-f", "{{.Dir}}", e.pkg)
		if err != nil {
			return nil, err
		}
		if e.pkg == bbolt {
			// go build lays nothing over the module cache: it gets a copy.
			to := filepath.Join(dir, "bbolt")
			if flags == nil {
				if flags, err = replaceModule(ctx, from, to); err != nil {
					return nil, err
				}
			}
			from = to
		}
		path := filepath.Join(from, e.file)
		source := path
		if edited, again := overlay[path]; again {
			source = edited
		}
		overlay[path] = filepath.Join(dir, fmt.Sprintf("%d.go", i))
		if err := e.write(source, overlay[path]); err != nil {
			return nil, err
		}
	}
	list, err := json.Marshal(map[string]any{"Replace": overlay})
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "overlay.json")
	return append(flags, "-overlay", path), os.WriteFile(path, list, 0o644)
}

// replaceModule copies bbolt's module, and returns the flag that has go build
// take the copy.
func replaceModule(ctx context.Context, from, to string) (flags []string, err error) {
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		return nil, err
	}
	main, err := goList(ctx, "-m", "-f", "{{.Dir}}")
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"go.mod", "go.sum"} {
		data, err := os.ReadFile(filepath.Join(main, name))
		if err != nil {
			return nil, err
		}
		if name == "go.mod" {
			data = fmt.Appendf(data, "\nreplace %s => %s\n", bbolt, to)
		}
		if err := os.WriteFile(filepath.Join(filepath.Dir(to), name), data, 0o644); err != nil {
			return nil, err
		}
	}
	return []string{"-modfile", filepath.Join(filepath.Dir(to), "go.mod")}, nil
}

func goList(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, "go", append([]string{"list"}, args...)...).Output()
	if err != nil {
		return "", fmt.Errorf("go list %s: %w", strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}

// write writes the edited form of a source.
func (e edit) write(from, to string) error {
	source, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	edited, err := e.apply(source)
	if err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	return os.WriteFile(to, edited, 0o644)
}

// apply edits a source that is as the fault knows it.
func (e edit) apply(source []byte) ([]byte, error) {
	parts := bytes.Split(source, []byte(e.old))
	if len(parts)-1 != max(1, e.count) {
		return nil, fmt.Errorf("%q is there %d times, not %d; bring the fault up to date", e.old, len(parts)-1, max(1, e.count))
	}
	before := bytes.Join(parts[:e.which+1], []byte(e.old))
	after := bytes.Join(parts[e.which+1:], []byte(e.old))
	return bytes.Join([][]byte{before, after}, []byte(e.new)), nil
}
