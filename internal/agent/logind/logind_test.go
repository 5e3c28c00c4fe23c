package logind

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// service stands in for logind and systemd.
type service struct {
	conn  *dbus.Conn
	locks chan *os.File // the other ends of those that were given out

	mu       sync.Mutex
	delay    time.Duration
	reloaded int
}

func (s *service) tell(goes bool) error { return s.conn.Emit(place, manage+"."+goDown, goes) }

// serve answers what comes until the connection ends. It does so by hand: an exported
// object does not tell when its answer has been sent.
func (s *service) serve(calls <-chan *dbus.Message) error {
	for m := range calls {
		if m.Type != dbus.TypeMethodCall {
			continue
		}
		answer, done, err := s.answer(m)
		if err != nil {
			return err
		}
		reply := &dbus.Message{Type: dbus.TypeMethodReply, Body: answer, Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldReplySerial: dbus.MakeVariant(m.Serial()),
			dbus.FieldDestination: m.Headers[dbus.FieldSender],
		}}
		if len(answer) > 0 {
			reply.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(answer...))
		}
		if err := s.conn.Send(reply, nil).Err; err != nil {
			return err
		}
		done()
	}
	return nil
}

// answer is that to a call, and what is to be done when it has been sent.
func (s *service) answer(m *dbus.Message) (body []any, done func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch member := m.Headers[dbus.FieldMember].Value(); member {
	case "Get":
		return []any{dbus.MakeVariant(uint64(s.delay / time.Microsecond))}, func() {}, nil
	case "KillUnit":
		s.reloaded++
		s.delay = time.Hour
		return nil, func() {}, nil
	case "Inhibit":
		if len(m.Body) != 4 || m.Body[0] != "shutdown" || m.Body[3] != "delay" {
			return nil, nil, fmt.Errorf("asked for %v", m.Body)
		}
		ours, theirs, err := os.Pipe()
		if err != nil {
			return nil, nil, err
		}
		return []any{dbus.UnixFD(theirs.Fd())}, func() {
			theirs.Close()
			s.locks <- ours // who asked for it may go from now on
		}, nil
	default:
		return nil, nil, fmt.Errorf("asked for %v", member)
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

// daemon runs the program that most machines have for a bus, until it is called to end.
func daemon(t *testing.T) (socket string, end func()) {
	t.Helper()
	program, err := exec.LookPath("dbus-daemon")
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
	cmd := exec.Command(program, "--config-file="+config, "--nofork", "--nosyslog", "--print-address")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end = sync.OnceFunc(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	t.Cleanup(end)
	if _, err := out.Read(make([]byte, 256)); err != nil { // it listens
		t.Fatal(err)
	}
	return socket, end
}

// serving has a stand-in on the bus at the socket until the test ends.
func serving(t *testing.T, socket string) *service {
	t.Helper()
	conn, err := dbus.Connect("unix:path=" + dbus.EscapeBusAddressValue(socket))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{login, "org.freedesktop.systemd1"} {
		if got, err := conn.RequestName(name, dbus.NameFlagDoNotQueue); err != nil || got != dbus.RequestNameReplyPrimaryOwner {
			t.Fatal(name, got, err)
		}
	}
	s := &service{conn: conn, locks: make(chan *os.File, 1), delay: 5 * time.Second}
	calls := make(chan *dbus.Message, 16)
	conn.Eavesdrop(calls)
	var answering sync.WaitGroup
	answering.Go(func() {
		if err := s.serve(calls); err != nil {
			t.Error(err)
			conn.Close()
		}
	})
	t.Cleanup(func() { conn.Close(); answering.Wait() })
	return s
}

// A node goes through a shutdown that is called off, and one that is not.
func TestFollow(t *testing.T) {
	socket, _ := daemon(t)
	s := serving(t, socket)
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

// A node whose bus ends is told, and may begin again with the next.
func TestBusEnds(t *testing.T) {
	socket, end := daemon(t)
	s := serving(t, socket)
	s.mu.Lock()
	s.delay = time.Hour // as long as the node wants
	s.mu.Unlock()
	done := make(chan error, 1)
	go func() { done <- machine{socket: socket}.follow(t.Context(), time.Minute, nil) }()
	lock := <-s.locks
	end()
	if err := <-done; err == nil {
		t.Error("nobody tells that the bus has ended")
	}
	released(t, lock)
}

func TestNoBus(t *testing.T) {
	err := machine{socket: filepath.Join(t.TempDir(), "none")}.follow(t.Context(), time.Minute, nil)
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
