package rest

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/gorilla/websocket"
)

// A log over WebSocket: an empty message, the log, the end.
func TestSendLog(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// The last piece comes together with the end.
		sendLog(w, &request{Request: r}, io.NopCloser(iotest.DataErrReader(strings.NewReader("alive\n"))))
	}))
	defer server.Close()
	for _, c := range []struct {
		protocol string
		kind     int
		message  string
	}{
		{"", websocket.BinaryMessage, "alive\n"},
		{"binary.k8s.io", websocket.BinaryMessage, "alive\n"},
		{"base64.binary.k8s.io", websocket.TextMessage, "YWxpdmUK"},
	} {
		dialer := websocket.Dialer{}
		if c.protocol != "" {
			dialer.Subprotocols = []string{c.protocol}
		}
		connection, _, err := dialer.Dial("ws"+strings.TrimPrefix(server.URL, "http"), nil)
		if err != nil {
			t.Fatalf("%q: %v", c.protocol, err)
		}
		for _, want := range []string{"", c.message} {
			kind, data, err := connection.ReadMessage()
			if err != nil || kind != c.kind || string(data) != want {
				t.Errorf("%q: %d %q %v, want %d %q", c.protocol, kind, data, err, c.kind, want)
			}
		}
		if _, _, err := connection.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseNormalClosure) {
			t.Errorf("%q: the end is %v", c.protocol, err)
		}
		_ = connection.Close()
	}
}

// A client that goes ends the node's log, too.
func TestSendLogToNobody(t *testing.T) {
	reader, writer := io.Pipe()
	ended := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(ended)
		sendLog(w, &request{Request: r}, reader)
	}))
	defer server.Close()
	connection, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(server.URL, "http"), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = connection.Close()
	<-ended
	if _, err := writer.Write([]byte("x")); err == nil {
		t.Error("somebody still reads the log")
	}
}
