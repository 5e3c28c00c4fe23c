package export

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/sys/atomicwriter"

	"github.com/skiff-sh/skiff/internal/kind"
)

// mark is the file that tells a directory that was exported to, so that nothing
// is ever removed from another.
const mark = ".skiff-export"

// Directory writes a file of each object: RESOURCE/NAMESPACE/NAME.yaml, or
// RESOURCE/NAME.yaml for what is in no namespace. Files of objects that are gone
// are removed, as far as the selection reaches; files that need no change are
// not touched. The directory must be empty, but for names that begin with a dot,
// or have been exported to before.
func Directory(dir string, objects []Object, s Selection) error {
	if err := claim(dir); err != nil {
		return err
	}
	written := map[string]bool{}
	for _, o := range objects {
		data, err := o.YAML(s.AllFields)
		if err != nil {
			return err
		}
		path := filepath.Join(dir, o.Kind.Bucket(), o.Namespace, o.Name+".yaml")
		if err := writeFile(path, data); err != nil {
			return err
		}
		written[path] = true
	}
	kinds := s.Kinds
	if len(kinds) == 0 {
		kinds = kind.All
	}
	for _, k := range kinds {
		if s.Namespace != "" && !k.Namespaced {
			continue
		}
		if err := sweep(filepath.Join(dir, k.Bucket(), s.Namespace), written); err != nil {
			return err
		}
	}
	return nil
}

// claim marks a directory as one of exports.
func claim(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	others := ""
	for _, entry := range entries {
		if entry.Name() == mark {
			return nil
		}
		if !strings.HasPrefix(entry.Name(), ".") {
			others = entry.Name()
		}
	}
	if others != "" {
		return fmt.Errorf("%s has other files, such as %s: name an empty directory, or one that was exported to before", dir, others)
	}
	const text = "skiff export writes this directory, and removes the files of objects that are gone.\n"
	return os.WriteFile(filepath.Join(dir, mark), []byte(text), 0o600)
}

// writeFile replaces a file that differs. Secrets are among them: root alone
// reads it.
func writeFile(path string, data []byte) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return atomicwriter.WriteFile(path, data, 0o600)
}

// sweep removes the files below a directory that were not written now.
func sweep(dir string, written map[string]bool) error {
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || written[path] || !strings.HasSuffix(path, ".yaml") {
			return err
		}
		return os.Remove(path)
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
