package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
)

// acceptStreams serves the stream socket for the life of the shim.
func acceptStreams(l net.Listener, s *service) {
	for {
		conn, err := l.Accept()
		if err != nil {
			fmt.Fprintln(os.Stderr, "accept stream:", err)
			return
		}
		go serveStream(&client{conn: conn.(*net.UnixConn)}, s)
	}
}

func serveStream(c *client, s *service) {
	defer c.conn.Close()
	if err := handleStream(c, s); err != nil {
		c.send(FrameError, []byte(err.Error()))
	}
}

func handleStream(c *client, s *service) error {
	kind, data, err := ReadFrame(c.conn)
	if err != nil {
		return err
	}
	var r Request
	if kind != FrameRequest {
		return fmt.Errorf("frame %d: expected a request", kind)
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return fmt.Errorf("decode request: %w", err)
	}
	container, err := s.get(r.Container)
	if err != nil {
		return err
	}
	switch r.Op {
	case OpReopen:
		if err := container.plumbing.log.reopen(); err != nil {
			return err
		}
		return c.send(FrameReady, nil)
	case OpAttach:
		return attach(c, container, r.Stdin)
	case OpExec:
		return execute(c, container, r)
	}
	return fmt.Errorf("operation %q: not known", r.Op)
}

// attach connects a client until it or the container ends.
func attach(c *client, container *container, stdin bool) error {
	p := container.plumbing
	if err := c.send(FrameReady, nil); err != nil {
		return err
	}
	p.add(c)
	defer p.remove(c)
	select {
	case <-container.done: // who came too late to be told
		c.exit(container.snapshot().ExitCode)
		return nil
	default:
	}
	if stdin && container.stdinOnce {
		defer p.closeStdin()
	}
	for {
		kind, data, err := ReadFrame(c.conn)
		if err != nil {
			return nil
		}
		// Others may attach later: only an end that is final closes stdin.
		if kind == FrameStdinClose && !container.stdinOnce {
			continue
		}
		if !p.handle(kind, data) {
			return fmt.Errorf("frame %d: not expected", kind)
		}
	}
}

// execute runs a process for a client and kills it when the client goes away.
func execute(c *client, container *container, r Request) error {
	p, pid, ended, err := startExec(container, r)
	if err != nil {
		return fmt.Errorf("OCI runtime exec failed: %w: unknown", err)
	}
	defer p.close()
	if err := c.send(FrameReady, nil); err != nil {
		container.runc.reaper.signal(pid, syscall.SIGKILL)
		return err
	}
	p.add(c)
	p.flow()
	go func() { // ends with the connection, which the caller closes
		for {
			kind, data, err := ReadFrame(c.conn)
			if err != nil || !p.handle(kind, data) {
				container.runc.reaper.signal(pid, syscall.SIGKILL)
				p.stopReading()
				return
			}
		}
	}()
	status := <-ended
	p.wait(0)
	c.exit(exitCode(status))
	return nil
}

func startExec(container *container, r Request) (*plumbing, int, <-chan syscall.WaitStatus, error) {
	if !container.snapshot().FinishedAt.IsZero() {
		return nil, 0, nil, errors.New("cannot exec in a stopped container")
	}
	file := filepath.Join(container.bundle, "exec-"+r.Exec+".json")
	if err := os.WriteFile(file, r.Process, 0o600); err != nil {
		return nil, 0, nil, err
	}
	defer os.Remove(file)
	return spawn(r.Exec, r.Stdin, r.TTY, func(socket string, files stdio) (int, <-chan syscall.WaitStatus, error) {
		return container.runc.exec(container.id, container.bundle, r.Exec, file, socket, files)
	})
}
