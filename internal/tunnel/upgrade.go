package tunnel

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// ask upgrades a node's new connection to a server. It closes the connection when
// that fails.
func ask(ctx context.Context, conn net.Conn, protocol string) (net.Conn, error) {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	upgraded, err := exchange(ctx, conn, protocol)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return upgraded, nil
}

func exchange(ctx context.Context, conn net.Conn, protocol string) (net.Conn, error) {
	if err := conn.SetDeadline(time.Now().Add(handshakeTime)); err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://skiff"+Path, nil)
	if err != nil {
		return nil, err
	}
	request.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {protocol}, "User-Agent": {"skiff-agent"}}
	if err := request.Write(conn); err != nil {
		return nil, fmt.Errorf("ask for a tunnel: %w", err)
	}
	reader := bufio.NewReaderSize(conn, 1<<10)
	answer, err := http.ReadResponse(reader, request)
	if err != nil {
		return nil, fmt.Errorf("ask for a tunnel: %w", err)
	}
	if answer.StatusCode != http.StatusSwitchingProtocols || answer.Header.Get("Upgrade") != protocol {
		return nil, fmt.Errorf("the server gives no tunnel: %s", refusal(answer))
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	return withRest(conn, reader), nil
}

// refusal reads what a server says instead: a Status, or plain text.
func refusal(answer *http.Response) string {
	data, _ := io.ReadAll(io.LimitReader(answer.Body, 4<<10)) // as much as there is tells
	var status struct{ Message string }
	if json.Unmarshal(data, &status) == nil && status.Message != "" {
		data = []byte(status.Message)
	}
	return strings.TrimSpace(answer.Status + ": " + string(data))
}

// accept upgrades a request's connection, or answers why not and returns nil.
func accept(w http.ResponseWriter, r *http.Request) (conn net.Conn, protocol string) {
	protocol = r.Header.Get("Upgrade")
	switch {
	case r.Method != http.MethodGet:
		http.Error(w, "a tunnel begins with GET", http.StatusMethodNotAllowed)
		return nil, ""
	case r.ProtoMajor != 1:
		http.Error(w, "a tunnel is opened with HTTP/1.1", http.StatusHTTPVersionNotSupported)
		return nil, ""
	case !strings.EqualFold(r.Header.Get("Connection"), "upgrade"), protocol != forStreams && protocol != forPackets:
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", forStreams+", "+forPackets)
		http.Error(w, "only nodes' tunnels are served here", http.StatusUpgradeRequired)
		return nil, ""
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return nil, ""
	}
	if err := agree(conn, protocol); err != nil {
		conn.Close() // the node sees it, and asks again
		return nil, ""
	}
	return withRest(conn, buffered.Reader), protocol
}

func agree(conn net.Conn, protocol string) error {
	if err := conn.SetDeadline(time.Now().Add(handshakeTime)); err != nil {
		return err
	}
	_, err := io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+protocol+"\r\n\r\n")
	if err != nil {
		return err
	}
	return conn.SetDeadline(time.Time{})
}

// early is a connection of which some bytes have been read already.
type early struct {
	net.Conn
	rest []byte
}

// withRest gives a connection back what a reader has buffered.
func withRest(conn net.Conn, reader *bufio.Reader) net.Conn {
	n := reader.Buffered()
	if n == 0 {
		return conn
	}
	rest, _ := reader.Peek(n) // that much is there
	return &early{Conn: conn, rest: rest}
}

func (e *early) Read(p []byte) (int, error) {
	if len(e.rest) == 0 {
		return e.Conn.Read(p)
	}
	n := copy(p, e.rest)
	if e.rest = e.rest[n:]; len(e.rest) == 0 {
		e.rest = nil // and with it the reader's buffer
	}
	return n, nil
}

// NetConn returns the connection below, for its options.
func (e *early) NetConn() net.Conn { return e.Conn }
