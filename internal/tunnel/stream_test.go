package tunnel

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/nettest"
)

func replace(p []byte, old, new string) []byte {
	return bytes.Replace(p, []byte(old), []byte(new), 1)
}

// A stream is a connection like any other: deadlines, errors, concurrency.
func TestStreamIsAConnection(t *testing.T) {
	w := onTCP(t)
	w.agent("n", &Agent{Dial: direct})
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		l := listen(t)
		near, far := w.through("n", l)
		return near, far, func() { _ = near.Close(); _ = far.Close() }, nil
	})
}

func TestHalfClose(t *testing.T) {
	w := onTCP(t)
	w.agent("n", &Agent{Dial: direct})
	near, far := w.through("n", listen(t))
	defer near.Close()
	defer far.Close()
	for _, d := range []struct {
		name     string
		from, to net.Conn
	}{{"there", near, far}, {"back", far, near}} {
		// The first direction is closed while the second one is still used.
		if _, err := io.WriteString(d.from, "last words"); err != nil {
			t.Fatalf("%s: %v", d.name, err)
		}
		if err := d.from.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Fatalf("%s: %v", d.name, err)
		}
		if got, err := io.ReadAll(d.to); err != nil || string(got) != "last words" {
			t.Errorf("%s: %q, %v", d.name, got, err)
		}
	}
	near, far = w.through("n", listen(t))
	defer near.Close()
	defer far.Close()
	if err := far.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := near.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("after the far end said its last: %v", err)
	}
	if _, err := io.WriteString(near, "still here"); err != nil {
		t.Errorf("write after the far end said its last: %v", err)
	}
	if err := near.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(far); err != nil || string(got) != "still here" {
		t.Errorf("the far end read %q, %v", got, err)
	}
}

// What was written before Close arrives, whole, however long it is.
func TestCloseDelivers(t *testing.T) {
	w := onTCP(t)
	w.agent("n", &Agent{Dial: direct})
	for _, size := range []int{0, 1, 1 << 10, 300 << 10} {
		near, far := w.through("n", listen(t))
		text := strings.Repeat("x", size)
		got := make(chan int, 1)
		w.work.Go(func() {
			data, err := io.ReadAll(far)
			if err != nil {
				t.Errorf("%d bytes: %v", size, err)
			}
			got <- len(data)
		})
		if _, err := io.WriteString(near, text); err != nil {
			t.Fatal(err)
		}
		_ = near.Close()
		if n := <-got; n != size {
			t.Errorf("%d of %d bytes arrived", n, size)
		}
		_ = far.Close()
		if _, err := near.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("read after close: %v", err)
		}
	}
}

// A connection that is reset is no connection that has ended in peace, in both
// directions.
func TestReset(t *testing.T) {
	w := onTCP(t)
	w.agent("n", &Agent{Dial: direct})
	near, far := w.through("n", listen(t))
	_ = far.(*net.TCPConn).SetLinger(0)
	_ = far.Close()
	if _, err := near.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read from a connection that was reset: %v", err)
	}
	if _, err := near.Write(make([]byte, 1<<20)); err == nil {
		t.Error("wrote to a connection that was reset")
	}
	_ = near.Close()

	near, far = w.through("n", listen(t))
	defer near.Close()
	defer far.Close()
	w.link("n").close()
	if _, err := near.Read(make([]byte, 1)); !errors.Is(err, ErrEnded) {
		t.Errorf("read through a tunnel that has ended: %v", err)
	}
	_ = far.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := far.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the far end sees %v", err)
	}
}
