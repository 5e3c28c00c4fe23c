package logind

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"
)

// patience is how long the bus and its services may take to answer.
const patience = 25 * time.Second

// bus is a connection to a message bus; it is for one goroutine.
type bus struct {
	conn    *net.UnixConn
	stop    func() bool
	in      bytes.Buffer
	files   []*os.File // that came and were not claimed yet
	serial  uint32
	waiting []message // signals that came while an answer was waited for
}

// dial connects to the bus at a socket and says hello. The connection ends with the
// context.
func dial(ctx context.Context, socket string) (*bus, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, fmt.Errorf("connect to the system's bus: %w", err)
	}
	b := &bus{conn: conn.(*net.UnixConn)}
	b.stop = context.AfterFunc(ctx, func() { conn.Close() })
	if err := b.greet(); err != nil {
		return nil, errors.Join(fmt.Errorf("begin with the system's bus: %w", err), b.close())
	}
	return b, nil
}

func (b *bus) close() error {
	b.stop()
	for _, f := range b.files {
		f.Close()
	}
	b.files = nil
	if err := b.conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// greet says who this is, by the socket's credentials.
func (b *bus) greet() error {
	who := hex.EncodeToString([]byte(strconv.Itoa(os.Getuid())))
	for _, step := range []struct{ say, want string }{
		{"\x00AUTH EXTERNAL " + who, "OK "}, {"NEGOTIATE_UNIX_FD", "AGREE_UNIX_FD"},
	} {
		if err := b.say([]byte(step.say + "\r\n")); err != nil {
			return err
		}
		line, err := b.line()
		if err != nil {
			return err
		}
		if !bytes.HasPrefix(line, []byte(step.want)) {
			return fmt.Errorf("it answers %q", line)
		}
	}
	if err := b.say([]byte("BEGIN\r\n")); err != nil {
		return err
	}
	_, err := b.call(message{
		destination: "org.freedesktop.DBus", path: "/org/freedesktop/DBus", iface: "org.freedesktop.DBus", member: "Hello",
	})
	return err
}

func (b *bus) say(data []byte) error {
	if err := b.conn.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	_, err := b.conn.Write(data)
	return err
}

// fill reads more, and the files that come with it.
func (b *bus) fill() error {
	data, control := make([]byte, 4096), make([]byte, syscall.CmsgSpace(16*4))
	n, c, _, _, err := b.conn.ReadMsgUnix(data, control)
	if err == nil && n == 0 {
		err = io.EOF
	}
	if err != nil {
		return err
	}
	b.in.Write(data[:n])
	messages, err := syscall.ParseSocketControlMessage(control[:c])
	if err != nil {
		return fmt.Errorf("read what comes with a message: %w", err)
	}
	for i := range messages {
		fds, err := syscall.ParseUnixRights(&messages[i])
		if err != nil {
			continue // credentials, say
		}
		for _, fd := range fds {
			b.files = append(b.files, os.NewFile(uintptr(fd), "bus"))
		}
	}
	return nil
}

func (b *bus) line() ([]byte, error) {
	for {
		if i := bytes.Index(b.in.Bytes(), []byte("\r\n")); i >= 0 {
			return b.in.Next(i + 2)[:i], nil
		}
		if b.in.Len() > 4096 {
			return nil, errors.New("it says too much")
		}
		if err := b.fill(); err != nil {
			return nil, err
		}
	}
}

func (b *bus) read(n int) ([]byte, error) {
	for b.in.Len() < n {
		if err := b.fill(); err != nil {
			return nil, err
		}
	}
	return bytes.Clone(b.in.Next(n)), nil
}

// next is the message that comes next. Files that come with it are the last of files.
func (b *bus) next() (m message, files []*os.File, err error) {
	head, err := b.read(headSize)
	if err != nil {
		return m, nil, err
	}
	fields, body, err := lengths(head)
	if err != nil {
		return m, nil, err
	}
	padded := (fields + 7) &^ 7
	rest, err := b.read(padded + body)
	if err != nil {
		return m, nil, err
	}
	if m, err = decode(head, rest[:fields], rest[padded:]); err != nil {
		return m, nil, err
	}
	n := min(m.fds, len(b.files))
	files, b.files = b.files[:n:n], b.files[n:]
	return m, files, nil
}

// reply is an answer.
type reply struct {
	message
	files []*os.File
}

func (r reply) close() {
	for _, f := range r.files {
		f.Close()
	}
}

// call calls a method and waits for the answer, whose files are the caller's.
func (b *bus) call(m message) (reply, error) {
	b.serial++
	m.kind, m.serial = kindCall, b.serial
	if err := b.say(m.encode()); err != nil {
		return reply{}, err
	}
	if err := b.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return reply{}, err
	}
	defer func() { _ = b.conn.SetReadDeadline(time.Time{}) }() // a closed one tells when it is read
	for {
		answer, files, err := b.next()
		r := reply{answer, files}
		switch {
		case err != nil:
			return reply{}, err
		case answer.kind == kindSignal:
			r.close()
			b.waiting = append(b.waiting, answer)
		case answer.reply != b.serial:
			r.close() // nobody waits for it any more
		case answer.kind == kindError:
			r.close()
			return reply{}, fmt.Errorf("%s: %s: %s", m.member, answer.err, answer.say())
		default:
			return r, nil
		}
	}
}

// say is what an error says of itself.
func (m message) say() string {
	d := decoder{buf: m.body}
	if len(m.signature) == 0 || m.signature[0] != 's' {
		return "no reason given"
	}
	return d.text()
}

// signal waits for the next signal.
func (b *bus) signal() (message, error) {
	for {
		if len(b.waiting) > 0 {
			m := b.waiting[0]
			b.waiting = b.waiting[1:]
			return m, nil
		}
		m, files, err := b.next()
		if err != nil {
			return m, err
		}
		reply{m, files}.close()
		if m.kind == kindSignal {
			return m, nil
		}
	}
}

// texts is a body of texts alone.
func texts(all ...string) (signature string, body []byte) {
	var e encoder
	for _, s := range all {
		e.text(s)
		signature += "s"
	}
	return signature, e.buf
}
