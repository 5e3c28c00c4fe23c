package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/skiff-sh/skiff/e2e/box"
	"github.com/skiff-sh/skiff/e2e/cluster/lab"
	"github.com/skiff-sh/skiff/e2e/process"
)

// base and skiff are where a run keeps everything and what it tests.
var (
	base  = os.Getenv(process.BaseVariable)
	skiff = os.Getenv(process.SkiffVariable)
)

func TestMain(m *testing.M) {
	os.Exit(process.Guard{What: "clusters", Parallel: 4, Base: &base, Skiff: &skiff, Prepare: prepare, CleanUp: cleanUp}.Run(m))
}

// labConfig is that of the lab of a name; all are below base/labs.
func labConfig(name string) lab.Config {
	dir := filepath.Join(base, "labs", name)
	return lab.Config{Dir: dir, Pins: filepath.Join(dir, "net") + "/", Skiff: skiff}
}

// cleanUp removes every lab of the run and says what it should not have found.
func cleanUp(failed bool) error {
	labs, err := filepath.Glob(filepath.Join(base, "labs", "*"))
	errs := []error{err}
	for _, dir := range labs {
		errs = append(errs, removeLab(filepath.Base(dir), failed))
	}
	return errors.Join(errs...)
}

// removeLab removes the lab of a name and says what should not have been there,
// or still is.
func removeLab(name string, failed bool) error {
	c := labConfig(name)
	nodes, err := filepath.Glob(filepath.Join(c.Dir, "nodes", "*"))
	errs := []error{err, examineLogs(c.Dir, failed), lab.Remove(c)}
	for i, dir := range nodes {
		nodes[i] = filepath.Base(dir)
	}
	left, err := lab.Leftovers(c, nodes...)
	if len(left) > 0 {
		errs = append(errs, fmt.Errorf("lab %s has left %q", name, left))
	}
	return errors.Join(append(errs, err)...)
}

// examineLogs prints the ends of a lab's logs, if something failed, and finds
// panics in them.
func examineLogs(dir string, show bool) error {
	logs, err := filepath.Glob(filepath.Join(dir, "nodes", "*", "log"))
	errs := []error{err}
	for _, path := range logs {
		errs = append(errs, process.ExamineLog(path, show))
	}
	return errors.Join(errs...)
}

// prepare makes the image that the Pods run.
func prepare() error {
	if err := os.MkdirAll(filepath.Dir(boxArchive()), 0o755); err != nil {
		return err
	}
	_, err := box.Write(filepath.Dir(boxArchive()))
	return err
}

// boxArchive is the image that the Pods run.
func boxArchive() string { return filepath.Join(base, "images", "box.tar") }
