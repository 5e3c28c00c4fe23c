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
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Bytes as the specification has them.
func TestEncoding(t *testing.T) {
	signature, body := texts("ab")
	m := message{kind: kindCall, serial: 7, path: "/a", member: "M", destination: "d", signature: signature, body: body}
	want := "6c010001" + "07000000" + "07000000" + "37000000" + // the body has 7 bytes, the fields 55
		"01016f00" + "02000000" + "2f6100" + "0000000000" +
		"03017300" + "01000000" + "4d00" + "000000000000" +
		"06017300" + "01000000" + "6400" + "000000000000" +
		"08016700" + "017300" + "00" + // filled up to eight
		"02000000" + "616200"
	if got := hex.EncodeToString(m.encode()); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestDecoding(t *testing.T) {
	m := message{kind: kindSignal, serial: 3, reply: 9, path: "/p", iface: "i", member: "m", err: "e", destination: "d", signature: "s", fds: 2}
	m.signature, m.body = texts("hello")
	data := m.encode()
	fields, body, err := lengths(data[:headSize])
	if err != nil {
		t.Fatal(err)
	}
	padded := len(data) - body
	got, err := decode(data[:headSize], data[headSize:headSize+fields], data[padded:])
	if err != nil || got.path != "/p" || got.reply != 9 || got.fds != 2 || got.member != "m" || got.say() != "hello" {
		t.Errorf("got %+v, %v", got, err)
	}
	for n := range fields { // what is cut off is no panic
		if _, err := decode(data[:headSize], data[headSize:headSize+n], nil); err != nil && !errors.Is(err, errShort) && !strings.Contains(err.Error(), "header field") {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
	if _, _, err := lengths([]byte("HTTP/1.1 400 Bad")); err == nil {
		t.Error("another protocol is taken for the bus's")
	}
}

// service stands in for logind and systemd, and for the bus where there is none
// between.
type service struct {
	*bus
	locks chan *os.File // the other ends of those that were given out

	mu       sync.Mutex // of what is written
	delay    time.Duration
	reloaded int
}

func (s *service) send(m message, files ...*os.File) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serial++
	m.serial, m.fds = s.serial, len(files)
	var rights []byte
	for _, f := range files {
		rights = append(rights, syscall.UnixRights(int(f.Fd()))...)
	}
	_, _, err := s.conn.WriteMsgUnix(m.encode(), rights, nil)
	return err
}

func (s *service) tell(goes bool) error {
	var e encoder
	e.number(map[bool]uint32{true: 1}[goes])
	return s.send(message{kind: kindSignal, path: place, iface: manage, member: "PrepareForShutdown", signature: "b", body: e.buf})
}

// serve answers until the connection ends.
func (s *service) serve() error {
	for {
		m, _, err := s.next()
		if err != nil {
			return nil
		}
		if m.kind != kindCall {
			continue
		}
		answer := message{kind: kindReturn, reply: m.serial, destination: m.sender}
		var files []*os.File
		var lock *os.File
		switch m.member {
		case "Hello", "AddMatch":
		case "Get":
			var e encoder
			e.sign("t")
			e.align(8)
			s.mu.Lock()
			micro := uint64(s.delay / time.Microsecond)
			s.mu.Unlock()
			e.number(uint32(micro))
			e.number(uint32(micro >> 32))
			answer.signature, answer.body = "v", e.buf
		case "KillUnit":
			s.mu.Lock()
			s.reloaded++
			s.delay = time.Hour
			s.mu.Unlock()
		case "Inhibit":
			if !bytes.Contains(m.body, []byte("delay\x00")) {
				return fmt.Errorf("asked for %q", m.body)
			}
			ours, theirs, err := os.Pipe()
			if err != nil {
				return err
			}
			lock = ours
			var e encoder
			e.number(0)
			answer.signature, answer.body, files = "h", e.buf, []*os.File{theirs}
		default:
			return fmt.Errorf("asked for %s", m.member)
		}
		err = s.send(answer, files...)
		for _, f := range files {
			f.Close()
		}
		if err != nil {
			return err
		}
		if lock != nil { // who asked for it may go from now on
			s.locks <- lock
		}
	}
}

// held says whether a lock has not been closed yet: nothing can be read of it.
func held(t *testing.T, lock *os.File) bool {
	t.Helper()
	var buf [1]byte
	raw, err := lock.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var n int
	_ = raw.Read(func(fd uintptr) bool {
		n, err = syscall.Read(int(fd), buf[:])
		return true
	})
	return n <= 0 && errors.Is(err, syscall.EAGAIN)
}

func released(t *testing.T, lock *os.File) {
	t.Helper()
	if _, err := lock.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the lock is held: %v", err)
	}
	lock.Close()
}

// follow has a node on the bus at the socket go through a shutdown that is called off,
// and one that is not.
func follow(t *testing.T, socket string, s *service) {
	ctx, cancel := context.WithCancel(t.Context())
	settings := filepath.Join(t.TempDir(), "logind.conf.d", "zz-skiff.conf")
	changes, done := make(chan bool), make(chan error, 1)
	go func() {
		done <- machine{socket: socket, settings: settings}.follow(ctx, time.Minute, func(goes bool) { changes <- goes; changes <- goes })
	}()
	lock := <-s.locks
	s.mu.Lock()
	if text, err := os.ReadFile(settings); err != nil || !strings.Contains(string(text), "InhibitDelayMaxSec=60\n") || s.reloaded != 1 {
		t.Errorf("settings %q, %v, read again %d times", text, err, s.reloaded)
	}
	s.mu.Unlock()
	if err := s.tell(true); err != nil {
		t.Fatal(err)
	}
	if goes := <-changes; !goes || !held(t, lock) {
		t.Errorf("goes: %v, held: %v", goes, held(t, lock))
	}
	<-changes
	released(t, lock)
	if err := s.tell(false); err != nil {
		t.Fatal(err)
	}
	if goes := <-changes; goes {
		t.Error("a shutdown that was called off goes on")
	}
	<-changes
	lock = <-s.locks
	cancel()
	if err := <-done; err != nil {
		t.Errorf("at the end: %v", err)
	}
	released(t, lock)
}

func TestFollow(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "bus")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := &service{locks: make(chan *os.File, 1), delay: 5 * time.Second}
	ready := make(chan struct{})
	var serving sync.WaitGroup
	serving.Go(func() {
		conn, err := listener.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		s.bus = &bus{conn: conn.(*net.UnixConn), stop: func() bool { return true }}
		defer s.close()
		close(ready)
		if _, err := s.read(1); err != nil {
			t.Error(err)
		}
		for _, answer := range []string{"OK 1234\r\n", "AGREE_UNIX_FD\r\n", ""} {
			if _, err := s.line(); err != nil {
				t.Error(err)
			}
			if err := s.say([]byte(answer)); err != nil {
				t.Error(err)
			}
		}
		if err := s.serve(); err != nil {
			t.Error(err)
		}
	})
	follow(t, socket, s)
	<-ready
	listener.Close()
	serving.Wait()
}

// The same through the program that most machines have for a bus.
func TestFollowThroughDaemon(t *testing.T) {
	daemon, err := exec.LookPath("dbus-daemon")
	if err != nil {
		t.Skip("needs dbus-daemon")
	}
	dir := t.TempDir()
	socket, config := filepath.Join(dir, "bus"), filepath.Join(dir, "conf")
	text := `<busconfig><type>system</type><listen>unix:path=` + socket + `</listen><auth>EXTERNAL</auth>
<policy context="default"><allow own="*"/><allow send_destination="*" eavesdrop="true"/><allow receive_sender="*"/><allow user="*"/></policy></busconfig>`
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(daemon, "--config-file="+config, "--nofork", "--nosyslog", "--print-address")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if _, err := out.Read(make([]byte, 256)); err != nil { // it listens
		t.Fatal(err)
	}
	b, err := dial(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	s := &service{bus: b, locks: make(chan *os.File, 1), delay: 5 * time.Second}
	for _, name := range []string{login, "org.freedesktop.systemd1"} {
		signature, body := texts(name)
		e := encoder{buf: body}
		e.number(4) // do not queue
		r, err := b.call(message{
			destination: "org.freedesktop.DBus", path: "/org/freedesktop/DBus", iface: "org.freedesktop.DBus", member: "RequestName",
			signature: signature + "u", body: e.buf,
		})
		if err != nil {
			t.Fatal(err)
		}
		r.close()
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := s.serve(); err != nil {
			t.Error(err)
		}
	})
	follow(t, socket, s)
	if err := b.close(); err != nil {
		t.Error(err)
	}
	serving.Wait()
}

func TestNoBus(t *testing.T) {
	err := machine{socket: filepath.Join(t.TempDir(), "none")}.follow(t.Context(), time.Minute, nil)
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
