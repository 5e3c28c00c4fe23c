package tunnel

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/net/http2"
)

// What a server may send ahead of the Pods that read it: in one stream, and in
// all of a tunnel together, so that some that do not read stall no others.
const (
	nodeStreamWindow = 512 << 10
	nodeWindow       = 64 << 20
	maxStreams       = 1 << 14
)

// packetsHost is what a server asks of a node to have its way for packets opened.
const packetsHost = "packets.skiff"

// Dialer connects to an address in a node's network. An error that is a
// RefusedError says that it never would; its text reaches the client.
type Dialer func(ctx context.Context, network, address string) (net.Conn, error)

// Serve opens the connections that a server asks for over a tunnel until the
// tunnel ends or the context does, then closes them all. It closes conn. wake,
// where it is not nil, is called when the server wants the node's way for packets.
func Serve(ctx context.Context, conn net.Conn, dial Dialer, wake func(), log *zap.Logger) {
	e := &end{dial: dial, wake: wake}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	server := &http2.Server{
		MaxConcurrentStreams:         maxStreams,
		MaxReadFrameSize:             16 << 10, // the server holds a buffer of it for each stream
		MaxUploadBufferPerStream:     nodeStreamWindow,
		MaxUploadBufferPerConnection: nodeWindow,
		ReadIdleTimeout:              nodePingAfter,
		PingTimeout:                  pingTime,
	}
	server.ServeConn(conn, &http2.ServeConnOpts{
		Context: ctx, Handler: e,
		BaseConfig: &http.Server{ErrorLog: quiet(log), MaxHeaderBytes: maxHeaderBytes},
	})
	cancel()
	e.mu.Lock()
	e.over = true
	e.mu.Unlock()
	e.running.Wait()
}

// quiet takes what the library has to say: that connections end is no news.
func quiet(to *zap.Logger) *log.Logger {
	l, err := zap.NewStdLogAt(to, zap.DebugLevel)
	if err != nil { // there is such a level
		return log.New(io.Discard, "", 0)
	}
	return l
}

// end is a node's end of one tunnel.
type end struct {
	dial Dialer
	wake func()

	mu      sync.Mutex // guards what follows
	over    bool
	running sync.WaitGroup // added to with mu held
}

// begin counts a stream, unless the tunnel is over: HTTP/2 does not wait for
// what it has started.
func (e *end) begin() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.over {
		e.running.Add(1)
	}
	return !e.over
}

// ServeHTTP serves one stream.
func (e *end) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !e.begin() {
		return
	}
	defer e.running.Done()
	switch {
	case r.Method == http.MethodPost && r.Host == packetsHost:
		if e.wake == nil {
			http.Error(w, "this node carries no packets", http.StatusNotImplemented)
			return
		}
		e.wake()
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodConnect:
		e.connect(w, r)
	default:
		http.Error(w, "a tunnel knows only CONNECT", http.StatusMethodNotAllowed)
	}
}

func (e *end) connect(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), dialTime)
	conn, err := e.dial(ctx, r.Header.Get(networkHeader), r.Host)
	cancel()
	if err != nil {
		status := http.StatusBadGateway
		if refused := (*RefusedError)(nil); errors.As(err, &refused) {
			status = http.StatusForbidden
		}
		http.Error(w, err.Error(), status)
		return
	}
	defer conn.Close()
	w.WriteHeader(http.StatusOK)
	// Where this fails the server may have written and closed already: what it
	// wrote has to go out all the same.
	_ = http.NewResponseController(w).Flush()
	if err := splice(r.Context(), conn, r.Body, w); err != nil {
		panic(http.ErrAbortHandler) // the server must see that the stream is cut off
	}
}

// splice copies between a connection and a stream until both directions have
// ended. An error says that the connection was cut off.
func splice(ctx context.Context, conn net.Conn, body io.ReadCloser, w http.ResponseWriter) error {
	sent := make(chan struct{})
	var sending sync.WaitGroup
	sending.Go(func() {
		defer close(sent)
		send(conn, body)
	})
	defer sending.Wait()
	// When the server's side has closed, what it wrote before still goes out.
	stop := context.AfterFunc(ctx, func() {
		_ = conn.SetWriteDeadline(time.Now().Add(lingering))
		<-sent
		_ = conn.Close()
	})
	defer stop()
	err := wrap(w, conn)
	if err != nil && !errors.Is(err, errServerClosed) {
		_ = conn.Close()
		_ = body.Close()
		return err
	}
	<-sent
	return nil
}

// errServerClosed says that the server takes no more of a stream.
var errServerClosed = errors.New("the server has closed the stream")

// send writes to a connection what comes over the stream.
func send(conn net.Conn, body io.Reader) {
	buffer := takeRun()
	_, err := io.CopyBuffer(plain{conn}, body, *buffer)
	giveRun(buffer)
	if err == nil {
		if half, ok := conn.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite() // the other side sees it, or is gone
		}
		return
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // what is cut off must not look whole
	}
	_ = conn.Close()
}

// plain hides a connection's own way to copy, which would take a buffer of its own.
type plain struct{ io.Writer }

// wrap copies from a connection, each run with its length before it, and says so
// when there is no more.
func wrap(w http.ResponseWriter, conn io.Reader) error {
	control := http.NewResponseController(w)
	buffer := takeRun()
	for run := *buffer; ; {
		n, err := conn.Read(run[headerLen:])
		if n > 0 || errors.Is(err, io.EOF) {
			binary.BigEndian.PutUint16(run, uint16(n))
			if _, err := w.Write(run[:headerLen+n]); err != nil {
				return errServerClosed // and HTTP/2 may still hold the buffer
			}
			if err := control.Flush(); err != nil {
				return errServerClosed
			}
			if n == 0 {
				giveRun(buffer)
				return nil
			}
		}
		if err != nil && !errors.Is(err, io.EOF) {
			giveRun(buffer)
			return err
		}
	}
}

var runs = sync.Pool{New: func() any { b := make([]byte, headerLen+runBytes); return &b }}

func takeRun() *[]byte  { return runs.Get().(*[]byte) }
func giveRun(b *[]byte) { runs.Put(b) }
