package nbd

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"testing"
	"time"
)

var errBroken = errors.New("broken")

// recorder is a disk that notes its commands, and breaks at a flush when told.
type recorder struct {
	content  []byte
	commands []string
	broken   bool
}

func (r *recorder) Size() int64 { return int64(len(r.content)) }

func (r *recorder) ReadAt(p []byte, offset int64) (int, error) {
	r.commands = append(r.commands, "read")
	return copy(p, r.content[offset:]), nil
}

func (r *recorder) WriteAt(p []byte, offset int64) (int, error) {
	r.commands = append(r.commands, "write")
	return copy(r.content[offset:], p), nil
}

func (r *recorder) Force(p []byte, offset int64) (int, error) {
	r.commands = append(r.commands, "force")
	return copy(r.content[offset:], p), nil
}

func (r *recorder) Flush() error {
	r.commands = append(r.commands, "flush")
	if r.broken {
		return errBroken
	}
	return nil
}

// wire is the client's end; the first error stays.
type wire struct {
	t *testing.T
	net.Conn
}

func (w wire) send(values ...any) {
	w.t.Helper()
	var b bytes.Buffer
	for _, v := range values {
		if err := binary.Write(&b, binary.BigEndian, v); err != nil {
			w.t.Fatal(err)
		}
	}
	if _, err := w.Write(b.Bytes()); err != nil {
		w.t.Fatal(err)
	}
}

func (w wire) want(values ...any) {
	w.t.Helper()
	var b bytes.Buffer
	for _, v := range values {
		if err := binary.Write(&b, binary.BigEndian, v); err != nil {
			w.t.Fatal(err)
		}
	}
	got := make([]byte, b.Len())
	if _, err := io.ReadFull(w, got); err != nil {
		w.t.Fatalf("wanted %x: %v", b.Bytes(), err)
	}
	if !bytes.Equal(got, b.Bytes()) {
		w.t.Fatalf("got  %x\nwant %x", got, b.Bytes())
	}
}

// serve connects a client to a server; end returns what Serve did.
func serve(t *testing.T, disk Disk) (w wire, end func() error) {
	t.Helper()
	near, far := net.Pipe()
	deadline := time.Now().Add(10 * time.Second)
	near.SetDeadline(deadline)
	far.SetDeadline(deadline)
	done := make(chan error, 1)
	go func() { done <- Serve(far, disk) }()
	t.Cleanup(func() { near.Close(); far.Close() })
	return wire{t, near}, func() error { return <-done }
}

// begin is QEMU's handshake: options that we do not have, then GO.
func begin(w wire, size uint64) {
	w.t.Helper()
	w.want(uint64(magicInit), uint64(magicOption), uint16(flagFixed|flagNoZeros))
	w.send(uint32(flagFixed | flagNoZeros))
	const structuredReply = 8
	w.send(uint64(magicOption), uint32(structuredReply), uint32(0))
	w.want(uint64(magicReply), uint32(structuredReply), uint32(replyUnsupported), uint32(0))
	w.send(uint64(magicOption), uint32(optionGo), uint32(4+1+2+2), uint32(1), []byte("d"), uint16(1), uint16(infoBlockSize))
	w.want(uint64(magicReply), uint32(optionGo), uint32(replyInfo), uint32(12), uint16(infoExport), size, uint16(flagHas|flagFlush|flagFUA))
	w.want(uint64(magicReply), uint32(optionGo), uint32(replyInfo), uint32(14), uint16(infoBlockSize), uint32(blockMin), uint32(blockPreferred), uint32(blockMax))
	w.want(uint64(magicReply), uint32(optionGo), uint32(replyAck), uint32(0))
}

func TestServe(t *testing.T) {
	disk := &recorder{content: make([]byte, 8192)}
	w, end := serve(t, disk)
	begin(w, 8192)
	data := bytes.Repeat([]byte{7}, 512)
	w.send(uint32(magicRequest), uint16(0), uint16(commandWrite), uint64(11), uint64(1024), uint32(512), data)
	w.want(uint32(magicSimple), uint32(0), uint64(11))
	w.send(uint32(magicRequest), uint16(commandFUA), uint16(commandWrite), uint64(12), uint64(2048), uint32(512), data)
	w.want(uint32(magicSimple), uint32(0), uint64(12))
	w.send(uint32(magicRequest), uint16(0), uint16(commandFlush), uint64(13), uint64(0), uint32(0))
	w.want(uint32(magicSimple), uint32(0), uint64(13))
	w.send(uint32(magicRequest), uint16(0), uint16(commandRead), uint64(14), uint64(512), uint32(1024))
	w.want(uint32(magicSimple), uint32(0), uint64(14), make([]byte, 512), data)
	const trim = 4
	w.send(uint32(magicRequest), uint16(0), uint16(trim), uint64(15), uint64(0), uint32(512))
	w.want(uint32(magicSimple), uint32(invalid), uint64(15))
	w.send(uint32(magicRequest), uint16(0), uint16(commandDisconnect), uint64(16), uint64(0), uint32(0))
	if err := end(); err != nil {
		t.Fatal(err)
	}
	if want := []string{"write", "force", "flush", "read"}; !slices.Equal(disk.commands, want) {
		t.Errorf("the disk had %v, want %v", disk.commands, want)
	}
}

// TestBroken: what was done before a disk failed has its answer, and the rest
// has none.
func TestBroken(t *testing.T) {
	disk := &recorder{content: make([]byte, 4096), broken: true}
	w, end := serve(t, disk)
	begin(w, 4096)
	// Both at once, so that the first answer is still with the server when the
	// second command fails.
	w.send(uint32(magicRequest), uint16(0), uint16(commandWrite), uint64(1), uint64(0), uint32(512), make([]byte, 512),
		uint32(magicRequest), uint16(0), uint16(commandFlush), uint64(2), uint64(0), uint32(0))
	w.want(uint32(magicSimple), uint32(0), uint64(1))
	if err := end(); !errors.Is(err, errBroken) {
		t.Fatalf("Serve returned %v", err)
	}
	w.SetReadDeadline(time.Now().Add(-time.Second))
	if n, err := w.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Error("the failed command has an answer")
	}
}

// TestOld: the handshake that names its export.
func TestOld(t *testing.T) {
	w, end := serve(t, &recorder{content: make([]byte, 4096)})
	w.want(uint64(magicInit), uint64(magicOption), uint16(flagFixed|flagNoZeros))
	w.send(uint32(flagFixed), uint64(magicOption), uint32(optionExportName), uint32(1), []byte("d"))
	w.want(uint64(4096), uint16(flagHas|flagFlush|flagFUA), make([]byte, 124))
	w.Close()
	if err := end(); err != nil {
		t.Fatal(err)
	}
}

// TestNonsense: a client that speaks something else is left.
func TestNonsense(t *testing.T) {
	w, end := serve(t, &recorder{content: make([]byte, 4096)})
	begin(w, 4096)
	w.send(make([]byte, 28))
	if err := end(); err == nil {
		t.Error("a request without its magic number was taken")
	}
}
