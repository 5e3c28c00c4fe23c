// Package nbd serves one disk over the network block device protocol, as much
// of it as QEMU speaks: the fixed newstyle handshake without TLS, and simple
// replies to read, write, flush and disconnect.
//
// A Disk is what is served; one that fails ends its connection without an
// answer, as a disk without power does. Commands are carried out one after the
// other: a flush covers exactly the writes that came before it.
//
// The protocol: doc/proto.md of NetworkBlockDevice/nbd.
package nbd

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Disk is what is served.
type Disk interface {
	Size() int64
	ReadAt(p []byte, offset int64) (int, error)
	WriteAt(p []byte, offset int64) (int, error)
	// Force is WriteAt for a write that is on the medium before it is answered.
	Force(p []byte, offset int64) (int, error)
	Flush() error
}

// The handshake's numbers.
const (
	magicInit   = 0x4e42444d41474943 // "NBDMAGIC"
	magicOption = 0x49484156454f5054 // "IHAVEOPT"
	magicReply  = 0x3e889045565a9

	flagFixed   = 1 << 0 // of the handshake, both ways
	flagNoZeros = 1 << 1

	optionExportName = 1
	optionAbort      = 2
	optionInfo       = 6
	optionGo         = 7

	replyAck         = 1
	replyInfo        = 3
	replyUnsupported = 1<<31 + 1

	infoExport    = 0
	infoBlockSize = 3
)

// The transmission's numbers.
const (
	magicRequest = 0x25609513
	magicSimple  = 0x67446698

	flagHas   = 1 << 0 // of an export
	flagFlush = 1 << 2
	flagFUA   = 1 << 3

	commandRead       = 0
	commandWrite      = 1
	commandDisconnect = 2
	commandFlush      = 3

	commandFUA = 1 << 0 // of a command

	invalid = 22 // EINVAL

	blockMin, blockPreferred, blockMax = 512, 4096, 32 << 20
)

// Serve answers one client until it leaves (nil), the disk fails or the
// connection does. It does not close the connection: a client of a disk without
// power waits.
func Serve(conn io.ReadWriter, disk Disk) error {
	c := &client{disk: disk, r: bufio.NewReaderSize(conn, 64<<10), w: bufio.NewWriterSize(conn, 64<<10)}
	leaves, err := c.handshake()
	if err != nil || leaves {
		return err
	}
	for {
		leaves, err := c.command()
		if err != nil || leaves {
			// What was done before has its answer.
			return errors.Join(err, c.w.Flush())
		}
		// Answers leave together with those to what has come meanwhile.
		if c.r.Buffered() == 0 {
			if err := c.w.Flush(); err != nil {
				return err
			}
		}
	}
}

type client struct {
	disk    Disk
	r       *bufio.Reader
	w       *bufio.Writer
	noZeros bool
	buffer  []byte
}

// put writes integers in network order.
func (c *client) put(values ...any) error {
	for _, v := range values {
		if err := binary.Write(c.w, binary.BigEndian, v); err != nil {
			return err
		}
	}
	return nil
}

// handshake comes to an agreement about the export, whatever its name.
func (c *client) handshake() (leaves bool, err error) {
	if err := c.put(uint64(magicInit), uint64(magicOption), uint16(flagFixed|flagNoZeros)); err != nil {
		return false, err
	}
	if err := c.w.Flush(); err != nil {
		return false, err
	}
	var flags uint32
	if err := binary.Read(c.r, binary.BigEndian, &flags); err != nil {
		return false, err
	}
	if flags&flagFixed == 0 {
		return false, errors.New("the client does not speak the fixed newstyle handshake")
	}
	c.noZeros = flags&flagNoZeros != 0
	for {
		var head struct {
			Magic          uint64
			Option, Length uint32
		}
		if err := binary.Read(c.r, binary.BigEndian, &head); err != nil {
			return false, err
		}
		if head.Magic != magicOption || head.Length > 64<<10 {
			return false, fmt.Errorf("an option with magic %#x and %d bytes", head.Magic, head.Length)
		}
		if _, err := c.r.Discard(int(head.Length)); err != nil {
			return false, err
		}
		agreed, err := c.option(head.Option)
		if err == nil {
			err = c.w.Flush()
		}
		if err != nil || agreed || head.Option == optionAbort {
			return head.Option == optionAbort, err
		}
	}
}

// option answers one option; agreed means that commands follow.
func (c *client) option(option uint32) (agreed bool, err error) {
	exportFlags := uint16(flagHas | flagFlush | flagFUA)
	switch option {
	case optionExportName:
		if err := c.put(uint64(c.disk.Size()), exportFlags); err != nil || c.noZeros {
			return true, err
		}
		_, err := c.w.Write(make([]byte, 124))
		return true, err
	case optionInfo, optionGo:
		if err := c.put(uint64(magicReply), option, uint32(replyInfo), uint32(12),
			uint16(infoExport), uint64(c.disk.Size()), exportFlags); err != nil {
			return false, err
		}
		if err := c.put(uint64(magicReply), option, uint32(replyInfo), uint32(14),
			uint16(infoBlockSize), uint32(blockMin), uint32(blockPreferred), uint32(blockMax)); err != nil {
			return false, err
		}
		return option == optionGo, c.put(uint64(magicReply), option, uint32(replyAck), uint32(0))
	case optionAbort:
		return false, c.put(uint64(magicReply), option, uint32(replyAck), uint32(0))
	}
	return false, c.put(uint64(magicReply), option, uint32(replyUnsupported), uint32(0))
}

type request struct {
	Magic   uint32
	Flags   uint16
	Type    uint16
	Cookie  uint64
	Offset  uint64
	Length  uint32
	payload []byte
}

// command carries out one command.
func (c *client) command() (leaves bool, err error) {
	var head [28]byte
	if _, err := io.ReadFull(c.r, head[:]); err != nil {
		if errors.Is(err, io.EOF) {
			return true, nil // without a word
		}
		return false, err
	}
	r := request{
		Magic:  binary.BigEndian.Uint32(head[0:]),
		Flags:  binary.BigEndian.Uint16(head[4:]),
		Type:   binary.BigEndian.Uint16(head[6:]),
		Cookie: binary.BigEndian.Uint64(head[8:]),
		Offset: binary.BigEndian.Uint64(head[16:]),
		Length: binary.BigEndian.Uint32(head[24:]),
	}
	if r.Magic != magicRequest || r.Length > blockMax {
		return false, fmt.Errorf("a request with magic %#x and %d bytes", r.Magic, r.Length)
	}
	if cap(c.buffer) < int(r.Length) {
		c.buffer = make([]byte, r.Length)
	}
	r.payload = c.buffer[:r.Length]
	switch r.Type {
	case commandRead:
		if _, err := c.disk.ReadAt(r.payload, int64(r.Offset)); err != nil {
			return false, err
		}
		return false, c.answer(r.Cookie, 0, r.payload)
	case commandWrite:
		if _, err := io.ReadFull(c.r, r.payload); err != nil {
			return false, err
		}
		write := c.disk.WriteAt
		if r.Flags&commandFUA != 0 {
			write = c.disk.Force
		}
		if _, err := write(r.payload, int64(r.Offset)); err != nil {
			return false, err
		}
	case commandFlush:
		if err := c.disk.Flush(); err != nil {
			return false, err
		}
	case commandDisconnect:
		return true, nil
	default:
		return false, c.answer(r.Cookie, invalid, nil)
	}
	return false, c.answer(r.Cookie, 0, nil)
}

func (c *client) answer(cookie uint64, code uint32, data []byte) error {
	var head [16]byte
	binary.BigEndian.PutUint32(head[0:], magicSimple)
	binary.BigEndian.PutUint32(head[4:], code)
	binary.BigEndian.PutUint64(head[8:], cookie)
	if _, err := c.w.Write(head[:]); err != nil {
		return err
	}
	_, err := c.w.Write(data)
	return err
}
