package tunnel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
)

// echo answers in memory what is sent to it.
func echo(t testing.TB, work *sync.WaitGroup) Dialer {
	return func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		work.Go(func() {
			_, _ = io.Copy(far, far)
			_ = far.Close()
		})
		return near, nil
	}
}

// What the node answers instead of a connection reaches who asked.
func TestDialErrors(t *testing.T) {
	w := onTCP(t)
	w.agent("n", &Agent{Dial: NewPolicy(10250).Dial})
	w.agent("m", &Agent{Dial: direct})
	l := listen(t)
	nobody := l.Addr().String()
	_ = l.Close()
	for _, c := range []struct {
		node, address, text string
		refused             bool
	}{
		{"n", "192.0.2.1:22", "the node does not let the server connect to 192.0.2.1:22: it is neither the node's address nor one of its Pods'", true},
		{"n", "[2001:db8::1]:22", "[2001:db8::1]:22: it is neither", true},
		{"n", "localhost:10250", "expected an IP address", true},
		{"m", nobody, "dial tcp " + nobody + ": connect: connection refused", false},
		{"m", "no.such.host.invalid:1", "lookup no.such.host.invalid", false},
	} {
		_, err := w.hub.Dial(t.Context(), c.node, "tcp", c.address)
		var far *FarError
		if !errors.As(err, &far) || far.Refused != c.refused || far.Node != c.node || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v, want %s", c.address, err, c.text)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.hub.Dial(ctx, "m", "tcp", nobody); !errors.Is(err, context.Canceled) {
		t.Errorf("dial for nobody: %v", err)
	}
}

func TestUpgradeRefused(t *testing.T) {
	hub, err := NewHub(zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	request := func(method, connection, upgrade string, major int) *http.Request {
		r := httptest.NewRequest(method, Path, nil)
		r.ProtoMajor = major
		r.Header.Set("Connection", connection)
		r.Header.Set("Upgrade", upgrade)
		return r
	}
	for _, c := range []struct {
		r    *http.Request
		code int
	}{
		{request("GET", "", "", 1), http.StatusUpgradeRequired},
		{request("GET", "Upgrade", "websocket", 1), http.StatusUpgradeRequired},
		{request("GET", "Upgrade", forStreams, 2), http.StatusHTTPVersionNotSupported},
		{request("POST", "Upgrade", forStreams, 1), http.StatusMethodNotAllowed},
		{request("GET", "upgrade", forStreams, 1), http.StatusInternalServerError}, // a recorder cannot be taken over
	} {
		answer := httptest.NewRecorder()
		hub.Serve(answer, c.r, "n")
		if answer.Code != c.code {
			t.Errorf("%s %v: %d %s, want %d", c.r.Method, c.r.Header, answer.Code, answer.Body, c.code)
		}
	}
	hub.Close()
	answer := httptest.NewRecorder()
	if hub.Serve(answer, request("GET", "Upgrade", forStreams, 1), "n"); answer.Code != http.StatusServiceUnavailable {
		t.Errorf("a hub that is closed: %d", answer.Code)
	}
}

// A newer tunnel takes what is new; what goes on in the older one may end there.
func TestReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := onPipes(t)
		var work sync.WaitGroup
		old := make(chan struct{})
		conn, err := w.connect("n")(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if conn, err = ask(t.Context(), conn, forStreams); err != nil {
			t.Fatal(err)
		}
		work.Go(func() {
			defer close(old)
			Serve(t.Context(), conn, echo(t, &work), nil, zap.NewNop())
		})
		first := w.link("n")
		stream, err := w.hub.Dial(t.Context(), "n", "tcp", "10.42.0.1:80")
		if err != nil {
			t.Fatal(err)
		}
		w.agent("n", &Agent{Dial: echo(t, &work)})
		synctest.Wait()
		if w.link("n") == first || w.hub.Count() != 1 {
			t.Fatal("the newer tunnel did not take the older one's place")
		}
		if _, err := first.Dial(t.Context(), "tcp", "10.42.0.1:80"); !errors.Is(err, ErrEnded) {
			t.Errorf("dial through the older one: %v", err)
		}
		buffer := make([]byte, 5)
		for range 3 {
			time.Sleep(time.Hour)
			if _, err := io.WriteString(stream, "hello"); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(stream, buffer); err != nil {
				t.Fatal(err)
			}
		}
		select {
		case <-old:
			t.Error("the older tunnel ended with a stream in it")
		default:
		}
		_ = stream.Close()
		<-old
		work.Wait()
		if !w.hub.Connected("n") {
			t.Error("the end of the older tunnel took the newer one with it")
		}
		w.end()
	})
}

// The older tunnel ends although its stream does not, after a day.
func TestDrainEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := onPipes(t)
		var work sync.WaitGroup
		renew := make(chan struct{})
		renewed := func() <-chan struct{} { return renew }
		w.agent("n", &Agent{Dial: echo(t, &work), Renewed: func() <-chan struct{} { return renewed() }})
		w.link("n")
		stream, err := w.hub.Dial(t.Context(), "n", "tcp", "10.42.0.1:80")
		if err != nil {
			t.Fatal(err)
		}
		renewed = func() <-chan struct{} { return nil }
		close(renew)
		time.Sleep(maxDrain - time.Minute)
		if _, err := io.WriteString(stream, "x"); err != nil {
			t.Errorf("before the day is over: %v", err)
		}
		time.Sleep(2 * time.Minute)
		if _, err := io.ReadAll(stream); !errors.Is(err, ErrEnded) {
			t.Errorf("after a day: %v", err)
		}
		_ = stream.Close()
		w.end()
		work.Wait()
	})
}

// blackHole is a connection that passes nothing on once it is closed off, and
// does not say so.
type blackHole struct {
	net.Conn
	off chan struct{}
}

func (b *blackHole) Write(p []byte) (int, error) {
	select {
	case <-b.off:
		return len(p), nil
	default:
		return b.Conn.Write(p)
	}
}

// A link that carries nothing any more is noticed by both ends within 35 s, and
// not before it carries nothing.
func TestBlackHole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := onPipes(t)
		var work sync.WaitGroup
		off := make(chan struct{})
		connect := w.connect("n")
		connections := 0
		w.agent("n", &Agent{Dial: echo(t, &work), Connect: func(ctx context.Context) (net.Conn, error) {
			conn, err := connect(ctx)
			if connections++; connections > 1 {
				return conn, err
			}
			// Both directions end here: pings get in but no answer out, and
			// those of this end do not get out either.
			return &blackHole{conn, off}, err
		}})
		first := w.link("n")
		stream, err := w.hub.Dial(t.Context(), "n", "tcp", "10.42.0.1:80")
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if w.link("n") != first {
			t.Fatal("an idle tunnel did not last an hour")
		}
		began := time.Now()
		close(off)
		if _, err := stream.Read(make([]byte, 1)); !errors.Is(err, ErrEnded) {
			t.Errorf("read through a black hole: %v", err)
		}
		if took := time.Since(began); took > 35*time.Second {
			t.Errorf("it took %s to notice", took)
		}
		_ = stream.Close()
		if w.link("n") == first {
			t.Error("the tunnel did not come back")
		}
		w.end()
		work.Wait()
	})
}

// Who asks for a node that is away waits where that may help, and is told what is
// wrong where it does not.
func TestAwait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := onPipes(t)
		var work sync.WaitGroup
		await := func(ctx context.Context) (string, time.Duration) {
			began := time.Now()
			_, err := w.hub.Await(ctx, "n")
			return fmt.Sprint(err), time.Since(began)
		}
		text, took := await(t.Context())
		if took != patience || !strings.Contains(text, `node "n" has not connected to this server`) {
			t.Errorf("a new server: after %s: %s", took, text)
		}
		time.Sleep(recently)
		if text, took = await(t.Context()); took != 0 || !strings.Contains(text, "has not connected") {
			t.Errorf("a node never seen: after %s: %s", took, text)
		}
		stop := w.agent("n", &Agent{Dial: echo(t, &work)})
		synctest.Wait()
		stop()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if text, took = await(ctx); took != time.Second || !strings.Contains(text, "lost its connection to this server") ||
			!strings.Contains(text, "deadline exceeded") {
			t.Errorf("a client in a hurry: after %s: %s", took, text)
		}
		time.AfterFunc(2*time.Second, func() { w.agent("n", &Agent{Dial: echo(t, &work)}) })
		if text, took = await(t.Context()); text != "<nil>" || took != 2*time.Second {
			t.Errorf("a node that came back: after %s: %s", took, text)
		}
		w.end()
		work.Wait()
		time.Sleep(time.Minute)
		if text, took = await(t.Context()); took != 0 || !strings.Contains(text, "1m0s ago") {
			t.Errorf("a node long gone: after %s: %s", took, text)
		}
	})
}

// A thousand nodes hold their tunnels, lose the server, and come back
// one after the other.
func TestThousandTunnels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const nodes = 1000
		w := onPipes(t)
		var work sync.WaitGroup
		for i := range nodes {
			w.agent(fmt.Sprintf("n%d", i), &Agent{Dial: echo(t, &work)})
		}
		synctest.Wait()
		time.Sleep(2 * pingAfter)
		if n := w.hub.Count(); n != nodes {
			t.Fatalf("%d of %d tunnels", n, nodes)
		}
		w.hub.mu.Lock()
		var links []*Link
		for _, l := range w.hub.links {
			links = append(links, l)
		}
		w.hub.mu.Unlock()
		for _, l := range links {
			l.close()
		}
		most, last := 0, 0
		for range 20 { // tenths of the longest first wait
			time.Sleep(firstWait / 20)
			synctest.Wait()
			n := w.hub.Count()
			most, last = max(most, n-last), n
		}
		if last != nodes {
			t.Errorf("%d of %d tunnels came back within %s", last, nodes, firstWait)
		}
		if most > nodes/8 {
			t.Errorf("%d nodes came back within %s", most, firstWait/20)
		}
		w.end()
		work.Wait()
	})
}

func TestBackOff(t *testing.T) {
	var b backOff
	longest := func() time.Duration {
		copied := b
		var most time.Duration
		for range 1000 {
			again := copied
			most = max(most, again.next())
		}
		b.next()
		return most
	}
	for i, want := range []time.Duration{2, 4, 8, 16, 30, 30} {
		if got := longest(); got > want*time.Second || got < want*time.Second*9/10 {
			t.Errorf("wait %d is up to %s, want %s", i, got, want*time.Second)
		}
	}
	b.lived(time.Second)
	if longest() < longestWait/2 {
		t.Error("a connection that broke at once counted as one that held")
	}
	b.lived(stable)
	if longest() > firstWait {
		t.Error("a connection that held did not count")
	}
}

// end ends the world before its bubble does.
func (w *world) end() {
	w.stop()
	w.hub.Close()
}
