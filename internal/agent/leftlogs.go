package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/skiff-sh/skiff/internal/agent/volume"
)

// The logs of a Pod outlive everything else of it, until the API has no such
// Pod. A note in the data directory says where they are: the directory of all
// logs may be shared with others, whose logs are not ours to remove.

func (a *Agent) logNote(uid string) string {
	return filepath.Join(a.Host.DataDir, "agent", "ended", uid)
}

// keepLogs notes where the logs of an ended Pod are.
func (a *Agent) keepLogs(uid, dir string) error {
	if err := volume.WriteIfChanged(a.logNote(uid), []byte(dir), 0o600); err != nil {
		return fmt.Errorf("note logs: %w", err)
	}
	return nil
}

// removeLogs deletes a Pod's logs and the note of them.
func (a *Agent) removeLogs(uid, dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove logs: %w", err)
	}
	if err := os.Remove(a.logNote(uid)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove note of logs: %w", err)
	}
	return nil
}

// removeFormerLogs deletes the logs of ended Pods that are not to be kept.
func (a *Agent) removeFormerLogs(keep map[string]bool) error {
	notes, err := os.ReadDir(filepath.Dir(a.logNote("x")))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list notes of logs: %w", err)
	}
	var errs []error
	for _, n := range notes {
		if keep[n.Name()] {
			continue
		}
		dir, err := os.ReadFile(a.logNote(n.Name()))
		if err == nil && filepath.Dir(string(dir)) == filepath.Clean(a.Host.LogDir) {
			err = a.removeLogs(n.Name(), string(dir))
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
