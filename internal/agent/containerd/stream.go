package containerd

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"

	task "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/skiff-sh/skiff/internal/agent"
)

// sequence numbers processes started by Exec; with the process's own number it
// is unique among those of a shim, which outlives us.
type sequence struct{ n atomic.Uint64 }

func (s *sequence) next() string {
	return strconv.Itoa(os.Getpid()) + "-" + strconv.FormatUint(s.n.Add(1), 36)
}

// Exec implements agent.Runtime. When the context ends before the process, the
// process is killed. A reader that blocks is left to its owner to close.
func (r *Runtime) Exec(ctx context.Context, id string, e agent.Exec) (int, error) {
	entry, err := r.find(id)
	if err != nil {
		return 0, fmt.Errorf("exec: %w", err)
	}
	process, err := r.execProcess(entry.state.Pod.UID, id, e)
	if err != nil {
		return 0, fmt.Errorf("exec in container %s: %w", id, err)
	}
	name := r.execs.next()
	request := Request{Op: OpExec, Container: id, Exec: name, Process: process, TTY: e.TTY, Stdin: e.Streams.In != nil}
	s, err := r.openStream(ctx, entry.state.Pod.UID, request)
	if err != nil {
		return 0, fmt.Errorf("failed to exec in container: failed to start exec %q: %w", name, err)
	}
	return s.run(ctx, e.Streams, e.Resize)
}

// execProcess is the container's own process with another command.
func (r *Runtime) execProcess(podUID, id string, e agent.Exec) ([]byte, error) {
	data, err := os.ReadFile(filepath.Join(r.bundle(podUID, id), SpecFile))
	if err != nil {
		return nil, err
	}
	var spec struct{ Process specs.Process }
	if err := json.Unmarshal(data, &spec); err != nil {
		return nil, err
	}
	p := spec.Process
	p.Args, p.Terminal = e.Args, e.TTY
	if e.TTY {
		p.Env = environment(agent.Container{Env: p.Env, TTY: true})
	}
	return json.Marshal(p)
}

// Attach implements agent.Runtime.
func (r *Runtime) Attach(ctx context.Context, id string, streams agent.Streams) error {
	e, err := r.find(id)
	if err != nil {
		return fmt.Errorf("attach: %w", err)
	}
	s, err := r.openStream(ctx, e.state.Pod.UID, Request{Op: OpAttach, Container: id, Stdin: streams.In != nil})
	if err != nil {
		return fmt.Errorf("attach to container %s: %w", id, err)
	}
	_, err = s.run(ctx, streams, nil)
	return err
}

// ReopenLog implements agent.Runtime.
func (r *Runtime) ReopenLog(ctx context.Context, id string) error {
	e, err := r.find(id)
	if err != nil {
		return fmt.Errorf("reopen log: %w", err)
	}
	s, err := r.openStream(ctx, e.state.Pod.UID, Request{Op: OpReopen, Container: id})
	if err != nil {
		return fmt.Errorf("reopen log of container %s: %w", id, err)
	}
	return s.conn.Close()
}

// Resize implements agent.Runtime.
func (r *Runtime) Resize(ctx context.Context, id string, width, height uint16) error {
	e, err := r.find(id)
	if err != nil {
		return fmt.Errorf("resize: %w", err)
	}
	p, err := r.pod(e.state.Pod.UID, false)
	if err != nil {
		return err
	}
	_, err = p.tasks.ResizePty(ctx, &task.ResizePtyRequest{ID: id, Width: uint32(width), Height: uint32(height)})
	if err != nil {
		return fmt.Errorf("resize terminal of container %s: %w", id, shimError(err))
	}
	return nil
}

// stream is one connection to a shim's stream socket.
type stream struct {
	conn net.Conn
	mu   sync.Mutex // of writes
}

// openStream connects and waits until the shim accepts.
func (r *Runtime) openStream(ctx context.Context, podUID string, request Request) (*stream, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", filepath.Join(r.podDir(podUID), StreamSocket))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errShimGone, err)
	}
	// The shim answers when the process was started, which the context bounds.
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	s, err := (&stream{conn: conn}).request(request)
	if !stop() {
		return nil, errors.Join(ctx.Err(), conn.Close())
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return s, nil
}

func (s *stream) request(r Request) (*stream, error) {
	data, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	if err := s.send(FrameRequest, data); err != nil {
		return nil, err
	}
	kind, data, err := ReadFrame(s.conn)
	switch {
	case err != nil:
		return nil, err
	case kind == FrameError:
		return nil, errors.New(string(data))
	case kind == FrameExit: // attached to what has ended
		return s, nil
	case kind != FrameReady:
		return nil, fmt.Errorf("frame %d from the shim: expected an answer", kind)
	}
	return s, nil
}

func (s *stream) send(kind byte, data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return WriteFrame(s.conn, kind, data)
}

// run copies until the process ends, and returns its exit code.
func (s *stream) run(ctx context.Context, streams agent.Streams, resize <-chan [2]uint16) (int, error) {
	defer s.conn.Close()
	stop := context.AfterFunc(ctx, func() { s.conn.Close() })
	defer stop()
	over := make(chan struct{})
	defer close(over)
	if streams.In != nil {
		go s.copyIn(streams.In)
	}
	if resize != nil {
		go s.copySizes(resize, over)
	}
	code, err := s.copyOut(streams)
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	return code, err
}

// copyIn ends with its reader or with the connection.
func (s *stream) copyIn(in io.Reader) {
	buf := make([]byte, 32<<10)
	for {
		n, err := in.Read(buf)
		if n > 0 && s.send(FrameStdin, buf[:n]) != nil {
			return
		}
		if err != nil {
			s.send(FrameStdinClose, nil)
			return
		}
	}
}

func (s *stream) copySizes(sizes <-chan [2]uint16, over <-chan struct{}) {
	for {
		select {
		case <-over:
			return
		case size, ok := <-sizes:
			if !ok {
				return
			}
			var data [4]byte
			binary.BigEndian.PutUint16(data[:], size[0])
			binary.BigEndian.PutUint16(data[2:], size[1])
			if s.send(FrameResize, data[:]) != nil {
				return
			}
		}
	}
}

func (s *stream) copyOut(streams agent.Streams) (int, error) {
	outputs := map[byte]io.Writer{FrameStdout: streams.Out, FrameStderr: streams.Err}
	for {
		kind, data, err := ReadFrame(s.conn)
		if err != nil {
			return 0, fmt.Errorf("the connection to the shim broke: %w", err)
		}
		switch kind {
		case FrameStdout, FrameStderr:
			if w := outputs[kind]; w != nil {
				if _, err := w.Write(data); err != nil {
					return 0, err
				}
			}
		case FrameExit:
			if len(data) != 4 {
				return 0, fmt.Errorf("exit frame of %d bytes: expected 4", len(data))
			}
			return int(binary.BigEndian.Uint32(data)), nil
		case FrameError:
			return 0, errors.New(string(data))
		}
	}
}
