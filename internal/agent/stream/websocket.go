package stream

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
)

const (
	pingPeriod   = 30 * time.Second
	writeTimeout = 60 * time.Second
)

// channels is an exec or attach over WebSocket: each binary message begins
// with the number of its stream. Version 5 adds a message that closes one
// direction of a stream (255 and its number), so that stdin can end.
type channels struct {
	conn *websocket.Conn
	v5   bool
	mu   sync.Mutex // one writer at a time
}

// serveWebSocket runs a session over a WebSocket. It returns when the session
// and its reader have ended.
func serveWebSocket(w http.ResponseWriter, r *http.Request, o *remotecommand.Options, run runner) {
	upgrader := websocket.Upgrader{
		Subprotocols: []string{remotecommand.StreamProtocolV5Name, remotecommand.StreamProtocolV4Name},
		CheckOrigin:  func(*http.Request) bool { return true }, // the client has shown a certificate
	}
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return // Upgrade has answered
	}
	defer conn.Close()
	c := &channels{conn: conn, v5: conn.Subprotocol() == remotecommand.StreamProtocolV5Name}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	s := Session{TTY: o.TTY}
	var stdin *io.PipeWriter
	if o.Stdin {
		var reader *io.PipeReader
		reader, stdin = io.Pipe()
		defer reader.Close() // frees a reader of messages nobody wants
		s.Stdin = reader
	}
	if o.Stdout {
		s.Stdout = channel{c, remotecommand.StreamStdOut}
	}
	if o.Stderr {
		s.Stderr = channel{c, remotecommand.StreamStdErr}
	}
	resize := make(chan [2]uint16)
	if o.TTY {
		s.Resize = resize
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		c.read(ctx, stdin, resize)
		cancel()
	})
	wg.Go(func() { c.ping(ctx) })
	code, runErr := run(ctx, s)
	_, _ = channel{c, remotecommand.StreamErr}.Write(exitStatus(code, runErr))
	c.bye()
	cancel()
	if reader, ok := s.Stdin.(*io.PipeReader); ok {
		reader.Close()
	}
	conn.Close()
	wg.Wait()
}

// channel is one outgoing stream.
type channel struct {
	c      *channels
	number byte
}

func (ch channel) Write(p []byte) (int, error) {
	ch.c.mu.Lock()
	defer ch.c.mu.Unlock()
	if err := ch.c.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	w, err := ch.c.conn.NextWriter(websocket.BinaryMessage)
	if err != nil {
		return 0, err
	}
	if _, err := w.Write([]byte{ch.number}); err != nil {
		return 0, err
	}
	n, err := w.Write(p)
	if err != nil {
		return n, err
	}
	return n, w.Close()
}

// read passes what the client sends on until the connection ends.
func (c *channels) read(ctx context.Context, stdin *io.PipeWriter, resize chan<- [2]uint16) {
	if stdin != nil {
		defer stdin.Close()
	}
	for {
		_, message, err := c.conn.ReadMessage()
		if err != nil {
			return
		}
		if len(message) == 0 {
			continue
		}
		data := message[1:]
		switch message[0] {
		case remotecommand.StreamStdIn:
			if stdin != nil && len(data) > 0 {
				// An error means that nobody reads any more.
				_, _ = stdin.Write(data)
			}
		case remotecommand.StreamResize:
			var size remotecommand.TerminalSize
			if json.Unmarshal(data, &size) != nil {
				continue
			}
			select {
			case resize <- [2]uint16{size.Width, size.Height}:
			case <-ctx.Done():
				return
			}
		case remotecommand.StreamClose:
			if c.v5 && stdin != nil && len(data) == 1 && data[0] == remotecommand.StreamStdIn {
				stdin.Close()
			}
		}
	}
}

// ping keeps the connection alive through what drops idle ones.
func (c *channels) ping(ctx context.Context) {
	tick := time.NewTicker(pingPeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if c.conn.WriteControl(websocket.PingMessage, nil, time.Now().Add(writeTimeout)) != nil {
				return
			}
		}
	}
}

func (c *channels) bye() {
	c.mu.Lock()
	defer c.mu.Unlock()
	message := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
	_ = c.conn.WriteControl(websocket.CloseMessage, message, time.Now().Add(time.Second))
}
