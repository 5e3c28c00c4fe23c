package tunnel

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptrace"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// runBytes is the longest run of bytes that a node sends under one header: with
// it, two frames of HTTP/2 as they are by default.
const runBytes = 32<<10 - headerLen

// stream is one connection through a tunnel. Each direction is a pipe of the
// standard library, which has deadlines; HTTP/2 is at the other ends.
type stream struct {
	link    *Link
	address address

	in       net.Conn // what came is read here
	incoming net.Conn // and written here
	out      net.Conn // what is to go is written here
	outgoing net.Conn // and read here
	abort    context.CancelFunc
	finished sync.Once
	closed   atomic.Bool
	sent     atomic.Bool
	linger   atomic.Pointer[time.Timer]
	cause    atomic.Pointer[error] // why in ended, when not in peace
}

func newStream(l *Link, network, where string) *stream {
	s := &stream{link: l, address: address{network, where}}
	s.in, s.incoming = net.Pipe()
	s.out, s.outgoing = net.Pipe()
	return s
}

// discard ends a stream that came to nothing.
func (s *stream) discard() {
	_ = s.out.Close()
	_ = s.in.Close()
}

// receive passes on what comes, until nothing more does.
func (s *stream) receive(body io.ReadCloser) {
	if err := unwrap(body, s.incoming); err != nil {
		// A stream that is cut off is a connection that is reset, or lost with
		// its tunnel. Either way nothing can be sent any more.
		cause := error(syscall.ECONNRESET)
		if s.link.client.State().Closed {
			cause = fmt.Errorf("%w (%s): %w", ErrEnded, s.link.node, err)
		}
		s.cause.Store(&cause)
		_ = s.outgoing.Close()
	}
	_ = s.incoming.Close()
	// The other direction may go on. Only when the request is over may its body
	// be closed, which gives back the window that unread bytes have taken.
	_, _ = io.Copy(io.Discard, body)
	_ = body.Close()
}

// unwrap copies runs of bytes until the far end says that it is through. An error
// of the writer's, who reads no more, is none.
func unwrap(body io.Reader, w io.Writer) error {
	reader := takeReader(body)
	defer giveReader(reader)
	for {
		header, err := reader.Peek(headerLen)
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		left := int(binary.BigEndian.Uint16(header))
		_, _ = reader.Discard(headerLen) // it is there
		if left == 0 {
			return nil
		}
		for left > 0 {
			if _, err := reader.Peek(1); err != nil {
				return io.ErrUnexpectedEOF
			}
			part, _ := reader.Peek(min(left, reader.Buffered()))
			if _, err := w.Write(part); err != nil {
				return nil
			}
			_, _ = reader.Discard(len(part))
			left -= len(part)
		}
	}
}

var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 16<<10) }}

func takeReader(r io.Reader) *bufio.Reader {
	reader := readers.Get().(*bufio.Reader)
	reader.Reset(r)
	return reader
}

func giveReader(reader *bufio.Reader) {
	reader.Reset(nil)
	readers.Put(reader)
}

// Read implements net.Conn.
func (s *stream) Read(p []byte) (int, error) {
	n, err := s.in.Read(p)
	if err == nil {
		return n, nil
	}
	if cause := s.cause.Load(); cause != nil && errors.Is(err, io.EOF) {
		err = *cause
	}
	return n, s.told("read", err)
}

// Write implements net.Conn.
func (s *stream) Write(p []byte) (int, error) {
	n, err := s.out.Write(p)
	if err == nil {
		return n, nil
	}
	if cause := s.cause.Load(); cause != nil && errors.Is(err, io.ErrClosedPipe) {
		err = *cause
	}
	return n, s.told("write", err)
}

// told gives an error the form that other connections' have.
func (s *stream) told(operation string, err error) error {
	switch {
	case errors.Is(err, io.EOF):
		return io.EOF
	case errors.Is(err, io.ErrClosedPipe) && s.closed.Load():
		err = net.ErrClosed
	case errors.Is(err, io.ErrClosedPipe):
		err = syscall.EPIPE
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = os.ErrDeadlineExceeded
	}
	return &net.OpError{Op: operation, Net: s.address.network, Addr: s.address, Err: err}
}

// CloseWrite says that nothing more will be written. The other direction stays.
func (s *stream) CloseWrite() error { return s.out.Close() }

// Close implements net.Conn.
func (s *stream) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	_ = s.out.Close()
	_ = s.in.Close()
	s.linger.Store(time.AfterFunc(lingering, s.end))
	if s.sent.Load() {
		s.end()
	}
	return nil
}

// wrote is told when all that was written is on its way.
func (s *stream) wrote(httptrace.WroteRequestInfo) {
	s.sent.Store(true)
	if s.closed.Load() {
		s.end()
	}
}

// end ends the request that the stream is to HTTP/2.
func (s *stream) end() {
	s.finished.Do(func() {
		s.abort()
		if timer := s.linger.Load(); timer != nil {
			timer.Stop()
		}
	})
}

// LocalAddr implements net.Conn.
func (s *stream) LocalAddr() net.Addr { return address{s.address.network, "tunnel"} }

// RemoteAddr implements net.Conn.
func (s *stream) RemoteAddr() net.Addr { return s.address }

// SetDeadline implements net.Conn.
func (s *stream) SetDeadline(t time.Time) error {
	return errors.Join(s.SetReadDeadline(t), s.SetWriteDeadline(t))
}

// SetReadDeadline implements net.Conn.
func (s *stream) SetReadDeadline(t time.Time) error { return s.in.SetReadDeadline(t) }

// SetWriteDeadline implements net.Conn.
func (s *stream) SetWriteDeadline(t time.Time) error { return s.out.SetWriteDeadline(t) }

// address is one in a node's network.
type address struct{ network, text string }

func (a address) Network() string { return a.network }
func (a address) String() string  { return a.text }
