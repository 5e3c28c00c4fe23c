package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
	defer os.Remove(pidFile)
	args = append(args, "--pid-file", pidFile)
	if consoleSocket != "" {
		args = append(args, "--console-socket", consoleSocket)
	}
	release := r.reaper.expect()
	defer release()
	if err := r.run(name+"-"+id, files, append(args, id)...); err != nil {
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

// abandoned is what is written to a container's FIFO in place of the container
// that has ended; runc writes a zero.
const abandoned = 'x'

// start lets the created container's process go on: it waits at a FIFO for a
// reader, which `runc start` would be too, at the price of a process.
func (r *runc) start(id string, gone <-chan struct{}) error {
	path := filepath.Join(r.root, id, "exec.fifo")
	read := make(chan error, 1)
	go func() { read <- readByte(path) }()
	select {
	case err := <-read:
		return errors.Join(err, os.Remove(path))
	case <-gone:
	}
	// Nobody will open the other side any more. Be both sides until the reader
	// has gone, whether it waits already or is yet to come.
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err == nil {
		defer f.Close()
		_, err = f.Write([]byte{abandoned})
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("the container's process has ended: %w", err)
	}
	if err := <-read; err != nil {
		return fmt.Errorf("the container's process has ended: %w", err)
	}
	return nil
}

func readByte(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	var b [1]byte
	if _, err = io.ReadFull(f, b[:]); err == nil && b[0] == abandoned {
		return errors.New("it never began")
	}
	return err
}

// delete removes runc's state and the cgroups of a container that has ended.
// Of one that may not have, or is half-made, --force removes what there is; it
// sleeps for a tenth of a second.
func (r *runc) delete(id string) error {
	if err := r.run("delete-"+id, stdio{}, "delete", id); err == nil {
		return nil
	}
	return r.run("delete-"+id, stdio{}, "delete", "--force", id)
}

// killAll ends every process of a container that shares its process namespace.
func (r *runc) killAll(id string) error {
	return r.run("kill-"+id, stdio{}, "kill", "--all", id, "KILL")
}

// run runs runc and returns what it logged as its error. The log lies in the
// Pod's directory: a bundle may be gone when there is something to say.
func (r *runc) run(name string, files stdio, args ...string) error {
	logFile := "runc-" + name + ".log"
	defer os.Remove(logFile)
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
