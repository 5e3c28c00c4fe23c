package containerd

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// handlerFile, in a Pod's directory, has the path of the program that runs its
// containers, where that is not runc.
const handlerFile = "runtime"

// handlerPrograms are the programs that can take runc's place, by the name of
// their handler. All of them are called as runc is.
var handlerPrograms = map[string]string{
	"crun":                "crun",
	"nvidia":              "nvidia-container-runtime",
	"nvidia-experimental": "nvidia-container-runtime-experimental",
	"runsc":               "runsc", // gVisor
}

// FindHandlers looks for the host's handlers along a search path, and then where
// installers of some of them put their programs. It returns the programs' paths
// by the handlers' names.
func FindHandlers(path string) map[string]string {
	found := map[string]string{}
	dirs := append(filepath.SplitList(path), "/usr/local/nvidia/toolkit", "/opt/kwasm/bin")
	for name, program := range handlerPrograms {
		for _, dir := range dirs {
			file := filepath.Join(dir, program)
			if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 && filepath.IsAbs(file) {
				found[name] = file
				break
			}
		}
	}
	return found
}

// Handlers are the names of the handlers that Pods may ask for, runc's included.
func (r *Runtime) Handlers() []string {
	return slices.Sorted(maps.Keys(withRunc(r.config.Handlers)))
}

func withRunc(handlers map[string]string) map[string]string {
	all := maps.Clone(handlers)
	if all == nil {
		all = map[string]string{}
	}
	all["runc"] = ""
	return all
}

// chooseHandler notes by which program the Pod's containers run: its shim, and
// whoever cleans up after that, will ask.
func (r *Runtime) chooseHandler(podDir, handler string) error {
	if handler == "" || handler == "runc" {
		return nil
	}
	program, ok := r.config.Handlers[handler]
	if !ok {
		return fmt.Errorf("no runtime for %q is configured", handler)
	}
	if err := makeDirs(podDir); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(podDir, handlerFile), []byte(program), 0o600)
}

// program is what runs the containers of a Pod.
func (r *Runtime) program(podDir string) (string, error) {
	path, err := os.ReadFile(filepath.Join(podDir, handlerFile))
	if errors.Is(err, fs.ErrNotExist) {
		return r.config.Runc, nil
	}
	return strings.TrimSpace(string(path)), err
}
