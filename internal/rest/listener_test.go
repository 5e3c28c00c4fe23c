package rest

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// guarded is a server behind a door, over TLS, that knows those who say who they are.
func guarded(t *testing.T, limits doorLimits) *httptest.Server {
	t.Helper()
	return watched(t, limits, func(http.ConnState) {})
}

// watched is a guarded server that tells of what the door has noted.
func watched(t *testing.T, limits doorLimits, tell func(http.ConnState)) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Who") != "" {
			introduce(r)
		}
		_, _ = io.WriteString(w, "ok")
	}))
	door := Listener(s.Listener)
	door.limits = limits
	s.Listener = door
	door.Guard(s.Config)
	note := s.Config.ConnState
	s.Config.ConnState = func(conn net.Conn, state http.ConnState) {
		note(conn, state)
		tell(state)
	}
	s.Config.HTTP2 = nil
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// dial opens a connection and asks once where a header is given.
func dial(t *testing.T, s *httptest.Server, header string) net.Conn {
	t.Helper()
	conn, err := tls.Dial("tcp", s.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true}) // it is this test's own
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if header != "" && !asks(conn, header) {
		t.Fatal("the first request on a connection was not answered")
	}
	return conn
}

// asks makes a request on a connection and says whether it was answered.
func asks(conn net.Conn, header string) bool {
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n"+header+"\r\n"); err != nil {
		return false
	}
	answer := make([]byte, 1000)
	n, err := conn.Read(answer)
	return err == nil && strings.HasPrefix(string(answer[:n]), "HTTP/1.1 200")
}

const known = "Who: me\r\n"

// Where there are too many strangers the oldest goes; whom the server knows stays.
func TestOldestStrangerGoes(t *testing.T) {
	s := guarded(t, doorLimits{strangers: 3, all: 100})
	friend := dial(t, s, known)
	var strangers []net.Conn
	for range 4 {
		strangers = append(strangers, dial(t, s, "A: b\r\n"))
	}
	if asks(strangers[0], "") {
		t.Error("the oldest stranger is still there")
	}
	if !asks(friend, known) || !asks(strangers[1], "") || !asks(strangers[3], "") {
		t.Error("somebody else had to go")
	}
}

// Where there are too many connections, who has been idle for longest goes before a
// stranger does.
func TestLongestIdleGoes(t *testing.T) {
	idle := make(chan struct{}, 100) // a client has its answer before its connection is idle
	s := watched(t, doorLimits{strangers: 100, all: 3}, func(state http.ConnState) {
		if state == http.StateIdle {
			idle <- struct{}{}
		}
	})
	first := dial(t, s, known)
	<-idle
	second := dial(t, s, known)
	<-idle
	if !asks(first, known) { // which makes the second the one that is idle for longer
		t.Fatal("no answer")
	}
	<-idle
	stranger := dial(t, s, "A: b\r\n")
	dial(t, s, "A: b\r\n")
	if asks(second, known) {
		t.Error("who was idle for longest is still there")
	}
	if !asks(first, known) || !asks(stranger, "") {
		t.Error("somebody else had to go")
	}
}

// Long headers are read a few at a time, and nobody keeps a place.
func TestLongHeadersHavePlaces(t *testing.T) {
	s := guarded(t, doorLimits{strangers: 100, all: 100})
	long := "B: " + strings.Repeat("x", 3*shortHeader) + "\r\n"
	for range 3 * longRequests {
		if conn := dial(t, s, ""); !asks(conn, long) || !asks(conn, long) {
			t.Fatal("a long header was not read")
		}
	}
	for range longRequests {
		conn := dial(t, s, "")
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n"+long); err != nil {
			t.Fatal(err)
		}
	}
	if !asks(dial(t, s, ""), "C: d\r\n") {
		t.Error("a short request has to wait for long ones")
	}
}

// The one that has waited longest is given up for one too many, once.
// Of handshakes that come together few are computed at once; the rest stand in line.
func TestHandshakesStandInLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		places := int(handshakes())
		door := Listener(nil)
		door.Guard(&http.Server{})
		var conns []*clientConn
		var computing atomic.Int64 // or done
		for range places + 3 {
			client, server := net.Pipe()
			c := &clientConn{Conn: server, door: door}
			conns = append(conns, c)
			go func() {
				if _, err := c.Read(make([]byte, 10)); err != nil {
					t.Error(err)
				}
				computing.Add(1)
			}()
			if _, err := io.WriteString(client, "hello"); err != nil {
				t.Fatal(err)
			}
			go func() { _, _ = io.Copy(io.Discard, client) }() // ends with the connection
		}
		want := func(n int) {
			t.Helper()
			synctest.Wait()
			if got := int(computing.Load()); got != n {
				t.Fatalf("%d of %d are computed, with %d places", got, len(conns), places)
			}
		}
		want(places)
		holders := slices.DeleteFunc(slices.Clone(conns), func(c *clientConn) bool { return !c.shaking.Load() })
		if _, err := holders[0].Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		want(places + 1)
		holders = slices.DeleteFunc(slices.Clone(conns), func(c *clientConn) bool { return !c.shaking.Load() })
		holders[0].note(http.StateActive)
		want(places + 2)
		for _, c := range conns {
			_ = c.Close()
		}
		want(len(conns))
		if !door.shake.TryAcquire(handshakes()) {
			t.Error("a place was not given back")
		}
	})
}

func TestPatience(t *testing.T) {
	var cut []string
	p := newPatience(2, time.Hour)
	begin := func(name string) func() { return p.begin(func() { cut = append(cut, name) }) }
	a, b := begin("a"), begin("b")
	a()
	c := begin("c")
	if len(cut) != 0 {
		t.Errorf("cut %v while there was room", cut)
	}
	d := begin("d")
	b()
	c()
	d()
	if strings.Join(cut, "") != "b" || p.queue.Len() != 0 {
		t.Errorf("cut %v, %d left", cut, p.queue.Len())
	}
	p.time = 0
	defer begin("e")()
	defer begin("f")()
	if strings.Join(cut, "") != "be" {
		t.Errorf("cut %v: one that waits too long goes when another comes", cut)
	}
}

// Memory is shared: what is too large for all of it has it alone, who waits gets it
// next, and who has no place to wait is sent away.
func TestBudget(t *testing.T) {
	b := newBudget(100, 1)
	give, err := b.take(t.Context(), 1000)
	if err != nil || b.try(1) != nil {
		t.Fatalf("the whole: %v", err)
	}
	got := make(chan error)
	go func() {
		give, err := b.take(context.Background(), 60)
		if err == nil {
			give()
		}
		got <- err
	}()
	for len(b.waiting) == 0 {
		runtime.Gosched()
	}
	if _, err := b.take(t.Context(), 10); err == nil || statusOf(err).Code != http.StatusTooManyRequests {
		t.Errorf("one too many: %v", err)
	}
	give()
	if err := <-got; err != nil {
		t.Errorf("who waited: %v", err)
	}
	if give := b.try(100); give == nil {
		t.Error("not all was given back")
	}
}

// A body of more than its length, of less, and one that never comes.
func TestReadBody(t *testing.T) {
	h := newTestHandler(Config{})
	for _, c := range []struct {
		name   string
		size   int
		length int64
		code   int32
	}{
		{"small", 100, 100, 0}, {"chunked", 100, -1, 0}, {"none", 0, 0, 0}, {"empty and chunked", 0, -1, 0},
		{"of the first part", smallBody, smallBody, 0}, {"of the first part, chunked", smallBody, -1, 0}, {"one more", smallBody + 1, smallBody + 1, 0}, {"one more, chunked", smallBody + 1, -1, 0},
		{"of two parts, chunked", smallBody + bodyPart, -1, 0}, {"the largest", maxBodyBytes, maxBodyBytes, 0}, {"the largest, chunked", maxBodyBytes, -1, 0},
		{"too large", maxBodyBytes + 1, maxBodyBytes + 1, 413}, {"too large, chunked", maxBodyBytes + 1, -1, 413}, {"cut short", 50, 100, 400}, {"cut short later", smallBody + 50, maxBodyBytes, 400},
	} {
		r := httptest.NewRequest("POST", "/", strings.NewReader(strings.Repeat("x", c.size)))
		r.ContentLength = c.length
		w := &statusWriter{ResponseWriter: httptest.NewRecorder(), h: h}
		data, err := h.readBody(w, r)
		w.release()
		switch {
		case c.code == 0 && (err != nil || len(data) != c.size):
			t.Errorf("%s: %d bytes, %v", c.name, len(data), err)
		case c.code != 0 && (err == nil || statusOf(err).Code != c.code):
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if h.bodies.try(h.bodies.bytes) == nil || h.patience.queue.Len() > 0 {
		t.Error("something is held still")
	}
}
