package tunnel

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/skiff-sh/skiff/internal/pki"
)

// onTLS is a world as it is: TLS over TCP. secure is how a server answers TLS.
func onTLS(t testing.TB) (w *world, secure *tls.Config, trust *tls.Config) {
	t.Helper()
	wall := pki.Clock{Now: time.Now}
	ca, err := pki.NewAuthority("test", wall)
	if err != nil {
		t.Fatal(err)
	}
	serving, err := ca.Issue(pki.Subject{CommonName: "server", Names: []string{"server"}, Server: true}, wall)
	if err != nil {
		t.Fatal(err)
	}
	secure = &tls.Config{Certificates: []tls.Certificate{serving.TLS()}, ClientAuth: tls.RequestClientCert}
	trust = &tls.Config{RootCAs: ca.Pool(), ServerName: "server", Certificates: []tls.Certificate{serving.TLS()}}
	plain := listen(t)
	w = newWorld(t, tls.NewListener(plain, secure), func(ctx context.Context) (net.Conn, error) {
		return (&tls.Dialer{Config: trust}).DialContext(ctx, "tcp", plain.Addr().String())
	})
	return w, secure, trust
}

// ways are how a server may reach something on a node, by what they cost: the
// node's own TLS, which all have, is left out of it.
func ways(b *testing.B, w *world, secure, trust *tls.Config, serve func(net.Conn)) map[string]func() net.Conn {
	b.Helper()
	accept := func(l net.Listener) string {
		w.work.Go(func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				w.work.Go(func() { serve(conn) })
			}
		})
		return l.Addr().String()
	}
	inner := listen(b)
	inside := accept(inner)
	outer := listen(b)
	outside := accept(tls.NewListener(outer, secure))
	w.agent("n", &Agent{Dial: direct})
	w.link("n")
	return map[string]func() net.Conn{
		"tunnel": func() net.Conn {
			conn, err := w.hub.Dial(context.Background(), "n", "tcp", inside)
			if err != nil {
				b.Error(err)
			}
			return conn
		},
		"direct": func() net.Conn {
			conn, err := tls.Dial("tcp", outside, trust)
			if err != nil {
				b.Error(err)
			}
			return conn
		},
		"plain": func() net.Conn {
			conn, err := net.Dial("tcp", inside)
			if err != nil {
				b.Error(err)
			}
			return conn
		},
	}
}

func answering(conn net.Conn) {
	defer conn.Close()
	_, _ = io.Copy(conn, conn)
}

var wayNames = []string{"plain", "direct", "tunnel"}

// A connection is opened, one byte goes there and back, and it is closed. direct
// has TLS, as tunnel does: once for all of its connections.
func BenchmarkConnect(b *testing.B) {
	w, secure, trust := onTLS(b)
	dial := ways(b, w, secure, trust, answering)
	for _, name := range wayNames {
		b.Run(name, func(b *testing.B) {
			one := make([]byte, 1)
			for b.Loop() {
				conn := dial[name]()
				if _, err := conn.Write(one); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(conn, one); err != nil {
					b.Fatal(err)
				}
				_ = conn.Close()
			}
		})
	}
}

// A byte goes there and back on a connection that is open: a key pressed in exec.
func BenchmarkRoundTrip(b *testing.B) {
	w, secure, trust := onTLS(b)
	dial := ways(b, w, secure, trust, answering)
	for _, name := range wayNames {
		b.Run(name, func(b *testing.B) {
			conn := dial[name]()
			defer conn.Close()
			one := make([]byte, 1)
			for b.Loop() {
				if _, err := conn.Write(one); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(conn, one); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

const bulk = 100 << 20

// 100 MB come from the node: a long log.
func BenchmarkDown(b *testing.B) {
	w, secure, trust := onTLS(b)
	chunk := make([]byte, 32<<10)
	dial := ways(b, w, secure, trust, func(conn net.Conn) {
		defer conn.Close()
		for range bulk / len(chunk) {
			if _, err := conn.Write(chunk); err != nil {
				return
			}
		}
	})
	for _, name := range wayNames {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(bulk)
			for b.Loop() {
				conn := dial[name]()
				if n, err := io.Copy(io.Discard, conn); err != nil || n != bulk {
					b.Fatalf("%d bytes: %v", n, err)
				}
				_ = conn.Close()
			}
		})
	}
}

// 100 MB go to the node.
func BenchmarkUp(b *testing.B) {
	w, secure, trust := onTLS(b)
	got := make(chan int64, 1)
	dial := ways(b, w, secure, trust, func(conn net.Conn) {
		defer conn.Close()
		n, _ := io.Copy(io.Discard, conn)
		got <- n
	})
	chunk := make([]byte, 32<<10)
	for _, name := range wayNames {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(bulk)
			for b.Loop() {
				conn := dial[name]()
				for range bulk / len(chunk) {
					if _, err := conn.Write(chunk); err != nil {
						b.Fatal(err)
					}
				}
				_ = conn.Close()
				if n := <-got; n != bulk {
					b.Fatalf("%d bytes", n)
				}
			}
		})
	}
}

// 100 connections at once, each with 100 round trips of 1 KB: port-forwards.
func BenchmarkHundred(b *testing.B) {
	w, secure, trust := onTLS(b)
	dial := ways(b, w, secure, trust, answering)
	for _, name := range wayNames {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				var all sync.WaitGroup
				for range 100 {
					all.Go(func() {
						conn := dial[name]()
						defer conn.Close()
						out, in := make([]byte, 1<<10), make([]byte, 1<<10)
						for range 100 {
							if _, err := conn.Write(out); err != nil {
								b.Error(err)
								return
							}
							if _, err := io.ReadFull(conn, in); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				all.Wait()
			}
		})
	}
}

// What an idle tunnel takes, of both ends together, TLS included.
func BenchmarkIdle(b *testing.B) {
	const nodes = 1000
	for b.Loop() {
		w, _, _ := onTLS(b)
		before := inUse()
		for i := range nodes {
			w.agent(fmt.Sprint(i), &Agent{Dial: direct})
		}
		for i := range nodes {
			w.link(fmt.Sprint(i))
		}
		both := inUse() - before
		b.ReportMetric(float64(both)/nodes, "B/tunnel")
		b.ReportMetric(float64(runtime.NumGoroutine())/nodes, "goroutines/tunnel")
		w.end()
	}
}

func inUse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// Packets of full size from one node to another, through the relay, TLS on both
// sides; lost ones are counted and not waited for.
func BenchmarkPackets(b *testing.B) {
	w, _, _ := onTLS(b)
	var got, gotBytes atomic.Int64
	one, two := w.carrier(1, nil), w.carrier(2, nil)
	arrived := make(chan struct{}, 1)
	two.Connect(func(p []byte) {
		got.Add(1)
		gotBytes.Add(int64(len(p)))
		select {
		case arrived <- struct{}{}:
		default:
		}
	}, func(bool) {})
	w.link("n1")
	w.link("n2")
	p := packet("10.42.1.5", "10.42.2.5", 1450)
	one.Send(p)
	<-arrived
	b.ReportAllocs()
	b.SetBytes(int64(len(p)))
	sent, first := int64(0), got.Load()
	b.ResetTimer()
	for b.Loop() {
		one.Send(p)
		if sent++; sent-(got.Load()-first) > 64 { // as much as TCP would have under way
			select {
			case <-arrived:
			case <-time.After(10 * time.Millisecond):
				sent = got.Load() - first // the rest is lost
			}
		}
	}
	b.ReportMetric(float64(got.Load()-first)/float64(b.N), "arrived/packet")
	b.StopTimer()
	w.end()
}

// What the relay itself takes for a packet.
func BenchmarkSwitch(b *testing.B) {
	w := onPipes(b)
	for i := range 250 {
		w.hub.SetPodCIDRs(fmt.Sprintf("n%d", i), podCIDRs(i))
	}
	from := w.hub.Attach("n1")
	to := w.hub.Attach("n2")
	to.Connect(func([]byte) {}, func(bool) {})
	p := packet("10.42.1.5", "10.42.2.5", 1450)
	b.ReportAllocs()
	for b.Loop() {
		from.Send(p)
	}
}
