package logind

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Kinds of messages, by the D-Bus specification.
const (
	kindCall   = 1
	kindReturn = 2
	kindError  = 3
	kindSignal = 4
)

// Codes of header fields.
const (
	fieldPath = iota + 1
	fieldInterface
	fieldMember
	fieldError
	fieldReply
	fieldDestination
	fieldSender
	fieldSignature
	fieldFDs
)

// message is what goes over the bus, in the byte order of this machine's peers, which
// is little-endian wherever this program runs.
type message struct {
	kind          byte
	serial        uint32
	reply         uint32 // the serial of the call that is answered
	path          string
	iface, member string
	err           string // name of an error
	destination   string
	sender        string
	signature     string
	body          []byte
	fds           int // how many come with it
}

// encoder lays values out as the specification says: each begins at a multiple of its
// own size.
type encoder struct{ buf []byte }

func (e *encoder) align(n int) {
	for len(e.buf)%n != 0 {
		e.buf = append(e.buf, 0)
	}
}

func (e *encoder) number(n uint32) {
	e.align(4)
	e.buf = binary.LittleEndian.AppendUint32(e.buf, n)
}

func (e *encoder) text(s string) {
	e.number(uint32(len(s)))
	e.buf = append(append(e.buf, s...), 0)
}

func (e *encoder) sign(s string) {
	e.buf = append(append(append(e.buf, byte(len(s))), s...), 0)
}

// field adds a header field: texts, paths and signatures.
func (e *encoder) field(code byte, signature, value string) {
	if value == "" {
		return
	}
	e.align(8)
	e.buf = append(e.buf, code)
	e.sign(signature)
	if signature == "g" {
		e.sign(value)
	} else {
		e.text(value)
	}
}

func (e *encoder) numberField(code byte, n uint32) {
	if n == 0 {
		return
	}
	e.align(8)
	e.buf = append(e.buf, code)
	e.sign("u")
	e.number(n)
}

// encode lays the message out.
func (m message) encode() []byte {
	e := encoder{buf: []byte{'l', m.kind, 0, 1}}
	e.number(uint32(len(m.body)))
	e.number(m.serial)
	e.number(0) // the length of the fields, below
	e.field(fieldPath, "o", m.path)
	e.field(fieldInterface, "s", m.iface)
	e.field(fieldMember, "s", m.member)
	e.field(fieldError, "s", m.err)
	e.numberField(fieldReply, m.reply)
	e.field(fieldDestination, "s", m.destination)
	e.field(fieldSignature, "g", m.signature)
	e.numberField(fieldFDs, uint32(m.fds))
	binary.LittleEndian.PutUint32(e.buf[12:], uint32(len(e.buf)-headSize))
	e.align(8)
	return append(e.buf, m.body...)
}

// headSize is that of the part of a message that has always the same.
const headSize = 16

// largest is more than anything that is read here.
const largest = 1 << 20

// lengths reads from a message's first bytes how much follows: fields, filled up to a
// multiple of eight, and body.
func lengths(head []byte) (fields, body int, err error) {
	if head[0] != 'l' || head[3] != 1 {
		return 0, 0, fmt.Errorf("a message begins with %q: the bus speaks another protocol", head[:4])
	}
	b, f := binary.LittleEndian.Uint32(head[4:]), binary.LittleEndian.Uint32(head[12:])
	if b > largest || f > largest {
		return 0, 0, errors.New("a message is too long")
	}
	return int(f), int(b), nil
}

// errShort says that something ends before it should.
var errShort = errors.New("a message ends too soon")

// decoder reads values; its first error stays.
type decoder struct {
	buf []byte
	pos int
	err error
}

func (d *decoder) take(n int) []byte {
	if d.err != nil || n < 0 || len(d.buf)-d.pos < n {
		if d.err == nil {
			d.err = errShort
		}
		return make([]byte, min(max(n, 0), 8))
	}
	d.pos += n
	return d.buf[d.pos-n : d.pos]
}

func (d *decoder) align(n int) {
	if over := d.pos % n; over != 0 {
		d.take(n - over)
	}
}

func (d *decoder) number() uint32 {
	d.align(4)
	return binary.LittleEndian.Uint32(d.take(4))
}

func (d *decoder) long() uint64 {
	d.align(8)
	return binary.LittleEndian.Uint64(d.take(8))
}

func (d *decoder) text() string { return d.ended(int(d.number())) }
func (d *decoder) sign() string { return d.ended(int(d.take(1)[0])) }

// ended reads text and the zero after it.
func (d *decoder) ended(n int) string {
	if n > largest {
		d.err = errShort
		return ""
	}
	text := d.take(n + 1)
	if d.err != nil {
		return ""
	}
	return string(text[:n])
}

// decode reads a message: its first bytes, the fields as long as they say, and the body.
func decode(head, fields, body []byte) (message, error) {
	m := message{kind: head[1], serial: binary.LittleEndian.Uint32(head[8:]), body: body}
	d := decoder{buf: fields} // fields begin at a multiple of eight
	for d.pos < len(fields) && d.err == nil {
		d.align(8)
		code, signature := d.take(1)[0], d.sign()
		switch signature {
		case "s", "o":
			m.set(code, d.text())
		case "g":
			m.set(code, d.sign())
		case "u":
			m.setNumber(code, d.number())
		default:
			return m, fmt.Errorf("a message has a header field of type %q", signature)
		}
	}
	return m, d.err
}

func (m *message) set(code byte, text string) {
	switch code {
	case fieldPath:
		m.path = text
	case fieldInterface:
		m.iface = text
	case fieldMember:
		m.member = text
	case fieldError:
		m.err = text
	case fieldDestination:
		m.destination = text
	case fieldSender:
		m.sender = text
	case fieldSignature:
		m.signature = text
	}
}

func (m *message) setNumber(code byte, n uint32) {
	switch code {
	case fieldReply:
		m.reply = n
	case fieldFDs:
		m.fds = int(min(n, largest))
	}
}
