package mesh

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/skiff-sh/skiff/internal/netns/netnstest"
)

// echoAll serves TCP on port 7 of the namespace and sends back what comes.
func echoAll(t testing.TB, ns string) {
	var listener net.Listener
	netnstest.In(t, ns, func() (err error) { listener, err = net.Listen("tcp4", ":7"); return err })
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(time.Minute))
				_, _ = io.Copy(c, c)
			})
		}
	})
	t.Cleanup(func() { listener.Close(); serving.Wait() })
}

// transfer sends megabytes there and back and compares.
func transfer(from, to string, size int) error {
	c, err := netnstest.Dial(from, "tcp", to+":7")
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	data := bytes.Repeat([]byte("skiff's mesh 16\n"), size/16)
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(data)
		sent <- errors.Join(err, c.(*net.TCPConn).CloseWrite())
	}()
	sum := sha256.New()
	n, err := io.Copy(sum, c)
	if err = errors.Join(err, <-sent); err != nil {
		return fmt.Errorf("after %d bytes: %w", n, err)
	}
	if want := sha256.Sum256(data); !bytes.Equal(sum.Sum(nil), want[:]) {
		return errors.New("what came back is not what was sent")
	}
	return nil
}

// ping asks an address for an echo of each size, unfragmented, and returns how
// many answered.
func ping(t testing.TB, from, address, to string, sizes ...int) int {
	t.Helper()
	var e *echoes
	netnstest.In(t, from, func() (err error) { e, err = openEchoes(netip.MustParseAddr(address)); return err })
	defer e.conn.Close()
	heard := make(chan echo, 16)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- e.receive(ctx, heard) }()
	e.send(netip.MustParseAddr(to), &probe{round: 1, sizes: sizes})
	got := 0
	for got < len(sizes) {
		select {
		case <-heard:
			got++
		case <-ctx.Done():
			<-done
			return got
		}
	}
	cancel()
	<-done
	return got
}

func (l *lab) ask(from, network, to string) (name, sees string) {
	l.Helper()
	name, sees, err := netnstest.Ask(from, network, to)
	if err != nil {
		l.Errorf("%s %s: %v", network, to, err)
	}
	return name, sees
}

// large sends a datagram that has to be fragmented and waits for the answer.
func large(from, to string) error {
	c, err := netnstest.Dial(from, "udp", to+":80")
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(netnstest.Timeout))
	if _, err := c.Write(make([]byte, 4000)); err != nil {
		return fmt.Errorf("send a large datagram: %w", err)
	}
	if _, err := c.Read(make([]byte, 100)); err != nil {
		return fmt.Errorf("no answer to a large datagram: %w", err)
	}
	return nil
}

// flow sends packets from one Pod to another and counts what is not answered.
type flow struct {
	what       string
	conn       net.Conn
	stop       chan struct{}
	done       sync.WaitGroup
	sent, lost int
}

func newFlow(l *lab, from, to string) *flow {
	l.Helper()
	c, err := netnstest.Dial(l.pod[from], "udp", l.ip[to]+":80")
	if err != nil {
		l.Fatal(err)
	}
	f := &flow{what: from + " to " + to, conn: c, stop: make(chan struct{})}
	f.done.Go(func() {
		b := make([]byte, 100)
		for {
			select {
			case <-f.stop:
				return
			default:
			}
			_ = c.SetDeadline(time.Now().Add(500 * time.Millisecond))
			f.sent++
			if _, err := c.Write([]byte("?")); err == nil {
				_, err = c.Read(b)
			}
			if err != nil {
				f.lost++
			}
		}
	})
	return f
}

func (f *flow) end() (lost, sent int) {
	close(f.stop)
	f.done.Wait()
	f.conn.Close()
	return f.lost, f.sent
}
