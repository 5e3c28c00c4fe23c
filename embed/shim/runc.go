package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// runc runs the OCI runtime.
type runc struct {
	path, root string
	reaper     *reaper
}

// stdio are the files a new process gets; nil ones are /dev/null.
type stdio [3]*os.File

// create makes the container of a bundle and returns its first process.
func (r *runc) create(id, bundle, consoleSocket string, files stdio) (pid int, ended <-chan syscall.WaitStatus, err error) {
	args := []string{"create", "--bundle", bundle}
	return r.spawn(bundle, "init", args, consoleSocket, files, id)
}

// exec starts another process in a container.
func (r *runc) exec(id, bundle, name, processFile, consoleSocket string, files stdio) (pid int, ended <-chan syscall.WaitStatus, err error) {
	args := []string{"exec", "--detach", "--process", processFile}
	return r.spawn(bundle, "exec-"+name, args, consoleSocket, files, id)
}

// spawn runs a command that leaves a process to the reaper.
func (r *runc) spawn(bundle, name string, args []string, consoleSocket string, files stdio, id string) (int, <-chan syscall.WaitStatus, error) {
	pidFile := filepath.Join(bundle, name+".pid")
	logFile := filepath.Join(bundle, name+".log")
	defer os.Remove(pidFile)
	defer os.Remove(logFile)
	args = append(args, "--pid-file", pidFile)
	if consoleSocket != "" {
		args = append(args, "--console-socket", consoleSocket)
	}
	release := r.reaper.expect()
	defer release()
	if err := r.run(logFile, files, append(args, id)...); err != nil {
		return 0, nil, err
	}
	data, err := os.ReadFile(pidFile)
	if err != nil {
		return 0, nil, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return 0, nil, fmt.Errorf("runc wrote no process number: %w", err)
	}
	return pid, r.reaper.claim(pid), nil
}

// start runs the created container's process.
func (r *runc) start(id, bundle string) error {
	logFile := filepath.Join(bundle, "start.log")
	defer os.Remove(logFile)
	return r.run(logFile, stdio{}, "start", id)
}

// delete ends what still runs and removes runc's state and the cgroups.
func (r *runc) delete(id, bundle string) error {
	logFile := filepath.Join(bundle, "delete.log")
	defer os.Remove(logFile)
	return r.run(logFile, stdio{}, "delete", "--force", id)
}

// killAll ends every process of a container that shares its process namespace.
func (r *runc) killAll(id, bundle string) error {
	logFile := filepath.Join(bundle, "kill.log")
	defer os.Remove(logFile)
	return r.run(logFile, stdio{}, "kill", "--all", id, "KILL")
}

// run runs runc and returns what it logged as its error.
func (r *runc) run(logFile string, files stdio, args ...string) error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	attr := &syscall.ProcAttr{Env: os.Environ(), Files: make([]uintptr, 3)}
	for i, f := range files {
		if f == nil {
			f = null
		}
		attr.Files[i] = f.Fd()
	}
	argv := append([]string{"runc", "--root", r.root, "--log", logFile, "--log-format", "json"}, args...)
	ended, err := r.reaper.start(r.path, argv, attr)
	if err != nil {
		return fmt.Errorf("run %s: %w", r.path, err)
	}
	if status := <-ended; exitCode(status) != 0 {
		return lastError(logFile, status)
	}
	return nil
}

// lastError returns the last error in runc's log, which says the most.
func lastError(logFile string, status syscall.WaitStatus) error {
	data, _ := os.ReadFile(logFile)
	message := ""
	for line := range bytes.Lines(data) {
		var entry struct{ Level, Msg string }
		if json.Unmarshal(line, &entry) == nil && entry.Level == "error" {
			message = strings.TrimSpace(entry.Msg)
		}
	}
	if message == "" {
		return fmt.Errorf("runc ended with exit code %d", exitCode(status))
	}
	return errors.New(message)
}
