package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"
)

// drainTimeout bounds how long a container that has ended waits for output of
// processes that outlive its first one.
const drainTimeout = 2 * time.Second

// container is one container of the Pod.
type container struct {
	id, bundle string
	runc       *runc
	plumbing   *plumbing
	stdinOnce  bool
	ownPIDs    bool // has its own process namespace: all ends with process 1
	oom        oomCounter
	done       chan struct{} // closed when the end is recorded

	mu    sync.Mutex // of state and its file
	state State
}

// createContainer runs runc create and follows the process to its end.
func createContainer(r *runc, id, bundle string, io CreateIO, tty bool) (_ *container, err error) {
	c := &container{id: id, bundle: bundle, runc: r, stdinOnce: io.StdinOnce, done: make(chan struct{})}
	if c.ownPIDs, err = ownProcessNamespace(bundle); err != nil {
		return nil, err
	}
	log, err := openLog(io.Log)
	if err != nil {
		return nil, err
	}
	pid, ended, err := c.spawn(log, io.Stdin, tty)
	if err != nil {
		log.close()
		return nil, err
	}
	c.oom = newOOMCounter(pid)
	c.state = State{PID: pid, CreatedAt: time.Now()}
	if err := c.save(); err != nil {
		r.delete(id)
		return nil, err
	}
	c.plumbing.flow()
	go c.follow(ended)
	return c, nil
}

func (c *container) spawn(log *logFile, stdin, tty bool) (int, <-chan syscall.WaitStatus, error) {
	create := func(socket string, files stdio) (int, <-chan syscall.WaitStatus, error) {
		return c.runc.create(c.id, c.bundle, socket, files)
	}
	p, pid, ended, err := spawn(c.id[:min(len(c.id), 12)], stdin, tty, create)
	if err != nil {
		// What a failed create leaves of cgroups and state.
		c.runc.delete(c.id)
		return 0, nil, fmt.Errorf("OCI runtime create failed: %w", err)
	}
	p.log = log
	c.plumbing = p
	return pid, ended, nil
}

// spawn connects a process that start makes.
func spawn(name string, stdin, tty bool, start func(socket string, files stdio) (int, <-chan syscall.WaitStatus, error)) (*plumbing, int, <-chan syscall.WaitStatus, error) {
	if tty {
		socket, err := newConsoleSocket(name)
		if err != nil {
			return nil, 0, nil, err
		}
		defer socket.close()
		pid, ended, err := start(socket.path, stdio{})
		if err != nil {
			return nil, 0, nil, err
		}
		console, err := socket.receive()
		if err != nil {
			return nil, 0, nil, err
		}
		return terminal(console), pid, ended, nil
	}
	p, theirs, err := pipes(stdin)
	if err != nil {
		return nil, 0, nil, err
	}
	defer theirs.close()
	pid, ended, err := start("", theirs)
	if err != nil {
		p.close()
		return nil, 0, nil, err
	}
	return p, pid, ended, nil
}

// follow records the container's end.
func (c *container) follow(ended <-chan syscall.WaitStatus) {
	status := <-ended
	now := time.Now()
	if !c.ownPIDs {
		c.runc.killAll(c.id) // nothing to kill is no error that matters
	}
	c.plumbing.wait(drainTimeout)
	c.plumbing.log.close()

	c.mu.Lock()
	c.state.FinishedAt = now
	c.state.ExitCode = exitCode(status)
	c.state.OOMKilled = c.oom.count() > 0
	if err := c.save(); err != nil {
		fmt.Fprintln(os.Stderr, "record exit:", err)
	}
	c.mu.Unlock()

	close(c.done)
	c.plumbing.mu.Lock()
	defer c.plumbing.mu.Unlock()
	for client := range c.plumbing.clients {
		client.exit(exitCode(status))
		client.conn.Close()
	}
	clear(c.plumbing.clients)
	c.plumbing.close()
}

// start lets the process go. When it did is noted before: a short one may have
// ended, and that be recorded, before we hear of its beginning.
func (c *container) start() error {
	c.setStarted(time.Now())
	if err := c.runc.start(c.id, c.done); err != nil {
		c.setStarted(time.Time{})
		return errors.Join(fmt.Errorf("OCI runtime start failed: %w", err), c.record())
	}
	return c.record()
}

func (c *container) setStarted(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state.StartedAt = at
}

func (c *container) record() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.save()
}

// snapshot returns the state as it is now.
func (c *container) snapshot() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

func (c *container) kill(signal syscall.Signal) error {
	return c.runc.reaper.signal(c.snapshot().PID, signal)
}

// remove ends the container if it runs and removes what runc made.
func (c *container) remove() error {
	if err := c.kill(syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	<-c.done
	if err := c.runc.delete(c.id); err != nil {
		return fmt.Errorf("OCI runtime delete failed: %w", err)
	}
	return nil
}

// save writes the state; the caller holds the lock or is alone.
func (c *container) save() error {
	data, err := json.Marshal(c.state)
	if err != nil {
		return err
	}
	path := filepath.Join(c.bundle, StateFile)
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// ownProcessNamespace tells whether the bundle's spec asks for a new one.
func ownProcessNamespace(bundle string) (bool, error) {
	data, err := os.ReadFile(filepath.Join(bundle, SpecFile))
	if err != nil {
		return false, err
	}
	type namespace struct{ Type, Path string }
	var spec struct {
		Linux struct{ Namespaces []namespace }
	}
	if err := json.Unmarshal(data, &spec); err != nil {
		return false, err
	}
	return slices.Contains(spec.Linux.Namespaces, namespace{Type: "pid"}), nil
}
