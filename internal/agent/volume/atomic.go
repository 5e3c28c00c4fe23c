package volume

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// dataLink points to the directory with the present contents.
const dataLink = "..data"

// writeAtomic makes dir show exactly files. Each name at the top is a link
// through ..data, which one rename turns to the new contents; nothing happens
// where they are what is there already.
func writeAtomic(dir string, files map[string]file, group *int64) error {
	for name := range files {
		if !filepath.IsLocal(name) || strings.HasPrefix(name, "..") {
			return fmt.Errorf("volume file %q lies outside the volume", name)
		}
	}
	current, err := os.Readlink(filepath.Join(dir, dataLink))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read %s: %w", dataLink, err)
	}
	if current != "" && sameFiles(filepath.Join(dir, current), files, group) {
		return linkNames(dir, files) // an earlier attempt may have ended here
	}
	fresh, err := os.MkdirTemp(dir, time.Now().UTC().Format("..2006_01_02_15_04_05."))
	if err != nil {
		return fmt.Errorf("make data directory: %w", err)
	}
	if err := writeFiles(fresh, files, group); err != nil {
		return errors.Join(err, os.RemoveAll(fresh))
	}
	temp := filepath.Join(dir, "..data_tmp")
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove old link: %w", err)
	}
	if err := os.Symlink(filepath.Base(fresh), temp); err != nil {
		return fmt.Errorf("link new data: %w", err)
	}
	if err := os.Rename(temp, filepath.Join(dir, dataLink)); err != nil {
		return fmt.Errorf("switch to new data: %w", err)
	}
	if err := linkNames(dir, files); err != nil {
		return err
	}
	return removeOld(dir, filepath.Base(fresh))
}

func writeFiles(dir string, files map[string]file, group *int64) error {
	if err := os.Chmod(dir, 0o755); err != nil {
		return fmt.Errorf("open up data directory: %w", err)
	}
	for name, f := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("make directory of %s: %w", name, err)
		}
		if err := os.WriteFile(path, f.Data, 0o600); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
		uid, gid := -1, -1
		if f.UID != nil {
			uid = int(*f.UID)
		}
		if group != nil {
			gid = int(*group)
		}
		if uid >= 0 || gid >= 0 {
			if err := os.Lchown(path, uid, gid); err != nil {
				return fmt.Errorf("give %s away: %w", name, err)
			}
		}
		// After the owner: a change of owner takes set-id bits away.
		if err := os.Chmod(path, fileMode(f, group)); err != nil {
			return fmt.Errorf("set mode of %s: %w", name, err)
		}
	}
	if group != nil {
		return ownDirs(dir, int(*group))
	}
	return nil
}

// fileMode lets the group read, where there is one.
func fileMode(f file, group *int64) os.FileMode {
	mode := os.FileMode(f.Mode).Perm()
	if group != nil {
		mode |= 0o440
	}
	return mode
}

func ownDirs(dir string, gid int) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		if err := os.Lchown(path, -1, gid); err != nil {
			return err
		}
		return os.Chmod(path, 0o755|0o550|os.ModeSetgid)
	})
}

func sameFiles(dir string, files map[string]file, group *int64) bool {
	found := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		f, ok := files[name]
		info, err2 := d.Info()
		data, err3 := os.ReadFile(path)
		if !ok || err2 != nil || err3 != nil || !bytes.Equal(data, f.Data) || info.Mode().Perm() != fileMode(f, group) {
			return fs.ErrInvalid
		}
		found++
		return nil
	})
	return err == nil && found == len(files)
}

// linkNames makes the links people see, and removes those of files that went.
func linkNames(dir string, files map[string]file) error {
	tops := map[string]bool{}
	for name := range files {
		top, _, _ := strings.Cut(name, "/")
		tops[top] = true
	}
	for top := range tops {
		path, target := filepath.Join(dir, top), filepath.Join(dataLink, top)
		if old, err := os.Readlink(path); err == nil && old == target {
			continue
		}
		if err := os.Symlink(target, path); err != nil {
			return fmt.Errorf("link %s: %w", top, err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list volume: %w", err)
	}
	for _, e := range entries {
		if e.Type()&fs.ModeSymlink == 0 || tops[e.Name()] || strings.HasPrefix(e.Name(), "..") {
			continue
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("remove link: %w", err)
		}
	}
	return nil
}

func removeOld(dir, keep string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list volume: %w", err)
	}
	for _, e := range entries {
		if e.IsDir() && strings.HasPrefix(e.Name(), "..") && e.Name() != keep {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return fmt.Errorf("remove old data: %w", err)
			}
		}
	}
	return nil
}

// WriteIfChanged writes a small file in place, so that bind mounts of it see
// the new text, unless it has that text already.
func WriteIfChanged(path string, data []byte, mode os.FileMode) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return err
	}
	if err := os.WriteFile(path, data, mode); err != nil {
		return err
	}
	return os.Chmod(path, mode)
}
