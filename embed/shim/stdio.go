package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// writeTimeout is how long a client may stall a process's output before it is
// let go.
const writeTimeout = 10 * time.Second

// plumbing is our side of a process's streams: pipes or a terminal, and who
// gets what comes out of them.
type plumbing struct {
	log     *logFile // nil for none
	stdin   *os.File // nil for none
	outputs map[byte]*os.File
	console *os.File
	drained sync.WaitGroup

	mu      sync.Mutex
	clients map[*client]struct{}
}

// pipes makes the pipes of a process; theirs are closed once it has them.
func pipes(withStdin bool) (p *plumbing, theirs stdio, err error) {
	p = &plumbing{clients: map[*client]struct{}{}, outputs: map[byte]*os.File{}}
	defer func() {
		if err != nil {
			p.close()
			theirs.close()
		}
	}()
	if withStdin {
		if theirs[0], p.stdin, err = os.Pipe(); err != nil {
			return nil, theirs, err
		}
	}
	for i, kind := range []byte{FrameStdout, FrameStderr} {
		if p.outputs[kind], theirs[i+1], err = os.Pipe(); err != nil {
			return nil, theirs, err
		}
	}
	return p, theirs, nil
}

func (s stdio) close() {
	for _, f := range s {
		if f != nil {
			f.Close()
		}
	}
}

// terminal wraps the master side of a process's terminal.
func terminal(console *os.File) *plumbing {
	return &plumbing{
		clients: map[*client]struct{}{}, console: console, stdin: console,
		outputs: map[byte]*os.File{FrameStdout: console},
	}
}

// flow copies outputs to the log and to clients until they end.
func (p *plumbing) flow() {
	for kind, f := range p.outputs {
		p.drained.Go(func() { p.copy(kind, f) })
	}
}

func (p *plumbing) copy(kind byte, f *os.File) {
	entries := lines{stream: "stdout"}
	if kind == FrameStderr {
		entries.stream = "stderr"
	}
	buf := make([]byte, 8<<10)
	for {
		n, err := f.Read(buf)
		if n > 0 {
			if p.log != nil {
				p.log.write(entries.add(buf[:n], time.Now()))
			}
			p.send(kind, buf[:n])
		}
		if err != nil { // EOF, or EIO from a terminal nobody has open
			break
		}
	}
	if p.log != nil {
		p.log.write(entries.end(time.Now()))
	}
}

func (p *plumbing) send(kind byte, data []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.clients {
		if c.send(kind, data) != nil {
			delete(p.clients, c)
			c.conn.Close()
		}
	}
}

func (p *plumbing) add(c *client) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clients[c] = struct{}{}
}

func (p *plumbing) remove(c *client) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.clients, c)
}

// wait returns when all output was copied, or after the timeout (0: none).
func (p *plumbing) wait(timeout time.Duration) {
	if timeout > 0 {
		t := time.AfterFunc(timeout, p.stopReading)
		defer t.Stop()
	}
	p.drained.Wait()
}

// stopReading ends the copies though processes still hold the other side.
func (p *plumbing) stopReading() {
	for _, f := range p.outputs {
		f.SetReadDeadline(time.Unix(1, 0))
	}
}

func (p *plumbing) closeStdin() {
	if p.stdin != nil && p.console == nil {
		p.stdin.Close()
	}
}

func (p *plumbing) close() {
	p.closeStdin()
	for _, f := range p.outputs {
		f.Close()
	}
}

// resize sets the size of the terminal, if there is one.
func (p *plumbing) resize(width, height uint16) error {
	if p.console == nil {
		return errors.New("the process has no terminal")
	}
	raw, err := p.console.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		set = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Col: width, Row: height})
	})
	return errors.Join(err, set)
}

// handle does what a client's frame asks; false ends the connection.
func (p *plumbing) handle(kind byte, data []byte) bool {
	switch kind {
	case FrameStdin:
		if p.stdin != nil {
			p.stdin.Write(data) // a process that does not read is no error
		}
	case FrameStdinClose:
		p.closeStdin()
	case FrameResize:
		if len(data) == 4 {
			p.resize(binary.BigEndian.Uint16(data), binary.BigEndian.Uint16(data[2:]))
		}
	default:
		return false
	}
	return true
}

// client is one stream connection.
type client struct {
	conn *net.UnixConn
	mu   sync.Mutex // of writes
}

func (c *client) send(kind byte, data []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	return WriteFrame(c.conn, kind, data)
}

func (c *client) exit(code int) {
	var data [4]byte
	binary.BigEndian.PutUint32(data[:], uint32(code))
	c.send(FrameExit, data[:])
}

// consoleSocket is where runc hands over the master side of a terminal.
type consoleSocket struct {
	path     string
	listener *net.UnixListener
}

// newConsoleSocket listens in the Pod's directory, since a container's own is
// too long a path for a socket.
func newConsoleSocket(name string) (*consoleSocket, error) {
	dir, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "tty-"+name)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	return &consoleSocket{path: path, listener: l}, nil
}

func (c *consoleSocket) close() { c.listener.Close() }

// receive returns the terminal that runc has sent before it ended.
func (c *consoleSocket) receive() (*os.File, error) {
	c.listener.SetDeadline(time.Now().Add(writeTimeout))
	conn, err := c.listener.AcceptUnix()
	if err != nil {
		return nil, fmt.Errorf("receive terminal: %w", err)
	}
	defer conn.Close()
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := conn.ReadMsgUnix(make([]byte, 4096), oob)
	if err != nil {
		return nil, fmt.Errorf("receive terminal: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) != 1 {
		return nil, fmt.Errorf("receive terminal: %d control messages: %w", len(messages), errors.Join(err))
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, fmt.Errorf("receive terminal: %d descriptors: %w", len(fds), errors.Join(err))
	}
	unix.CloseOnExec(fds[0])
	if err := syscall.SetNonblock(fds[0], true); err != nil { // or reads would take a thread each
		return nil, err
	}
	return os.NewFile(uintptr(fds[0]), "console"), nil
}
