// Package process runs the programs that tests and benchmarks are about.
//
// Start starts one whose output goes to a file, Ready waits until it answers, and
// Stop ends it. The invariant: a process started here ends with the one that
// started it, however that ends, and whoever waits for it hears of its end with
// the last lines it wrote. The package knows nothing of a cluster.
package process

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// ending is how long a process may take to end.
const ending = 20 * time.Second

// Process is one that was started here. It is safe for concurrent use.
type Process struct {
	Name string
	Log  string // file with what it writes

	command *exec.Cmd
	waiting sync.WaitGroup
	ended   chan struct{}
	outcome error // what came of it, once it has ended
}

// Start starts the command with its output appended to the file.
func Start(command *exec.Cmd, log string) (*Process, error) {
	file, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	p := &Process{Name: filepath.Base(command.Path), Log: log, command: command, ended: make(chan struct{})}
	command.Stdout, command.Stderr = file, file
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		return nil, err
	}
	p.waiting.Go(func() {
		p.outcome = command.Wait()
		close(p.ended)
	})
	return p, nil
}

// PID is the process's number.
func (p *Process) PID() int { return p.command.Process.Pid }

// Ended is closed at its end.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Kill ends the process at once. It may have ended already.
func (p *Process) Kill() {
	_ = p.command.Process.Kill()
	p.waiting.Wait()
}

// Stop asks the process to end by SIGTERM, and kills what does not within 20 s. It
// fails where the process ended neither by that nor well, and may be called again.
func (p *Process) Stop() error {
	_ = p.command.Process.Signal(syscall.SIGTERM) // it may have ended already
	select {
	case <-p.ended:
	case <-time.After(ending):
		p.Kill()
		return fmt.Errorf("%s did not end within %s; %s", p.Name, ending, p.tail())
	}
	p.waiting.Wait()
	if p.outcome != nil && !p.terminated() {
		return fmt.Errorf("%s: %w; %s", p.Name, p.outcome, p.tail())
	}
	return nil
}

// terminated says whether SIGTERM was its end.
func (p *Process) terminated() bool {
	status, ok := p.command.ProcessState.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGTERM
}

// Ready returns when the URL answers OK, or why it will not: the process has
// ended, or the context has.
func (p *Process) Ready(ctx context.Context, web *http.Client, url string) error {
	for {
		err := ask(ctx, web, url)
		if err == nil {
			return nil
		}
		select {
		case <-p.ended:
			return fmt.Errorf("%s ended before it was ready: %w; %s", p.Name, errors.Join(p.outcome, err), p.tail())
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w; %s", p.Name, err, p.tail())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func ask(ctx context.Context, web *http.Client, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := web.Do(request)
	if err != nil {
		return err
	}
	if err := response.Body.Close(); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, response.Status)
	}
	return nil
}

// tail is the end of the process's log, for an error message.
func (p *Process) tail() string {
	text, _ := os.ReadFile(p.Log)
	return "the end of its log:\n" + string(text[max(0, len(text)-4000):])
}

// Anyone is a client that takes every certificate and connects anew for each
// request: that a server answers matters to it, not who does.
func Anyone() *http.Client {
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		DisableKeepAlives: true,
	}}
}

// FreePorts returns TCP ports of 127.0.0.1 that nobody listens on, all different.
func FreePorts(n int) ([]string, error) {
	ports := make([]string, n)
	for i := range ports {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer listener.Close() // after all are chosen, so that they differ
		ports[i] = strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

// Skiff returns the absolute path of the executable that is tested: the one that
// SKIFF_BIN names, or bin/skiff of the repository, which the working directory is
// somewhere in.
func Skiff() (string, error) {
	if path := os.Getenv("SKIFF_BIN"); path != "" {
		path, err := filepath.Abs(path)
		if err == nil {
			_, err = os.Stat(path)
		}
		return path, err
	}
	dir, err := os.Getwd()
	for err == nil {
		path := filepath.Join(dir, "bin", "skiff")
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("find the executable to test: there is no bin/skiff: run make")
		}
		dir = filepath.Dir(dir)
	}
	return "", err
}
