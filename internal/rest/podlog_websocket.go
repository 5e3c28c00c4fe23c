package rest

import (
	"encoding/base64"
	"io"
	"net/http"
	"time"

	"github.com/gorilla/websocket"
)

// logText is the WebSocket protocol whose messages are text: base64 of the log.
// Those of binary.k8s.io, and of none, are the log itself.
const logText = "base64.binary.k8s.io"

// logUpgrader accepts logs over WebSocket, as upgrader does watches.
var logUpgrader = websocket.Upgrader{
	CheckOrigin:  upgrader.CheckOrigin,
	Subprotocols: []string{"binary.k8s.io", logText},
}

// sendLog sends a log as messages until it ends or the client goes, after one
// that is empty, by which the client knows that all went well.
func sendLog(w http.ResponseWriter, q *request, log io.ReadCloser) {
	connection, err := logUpgrader.Upgrade(w, q.Request, nil)
	if err != nil {
		return // the upgrader has answered
	}
	read := make(chan struct{})
	go func() { // ends with the connection, and is waited for
		defer close(read)
		for {
			if _, _, err := connection.NextReader(); err != nil {
				_ = log.Close() // nobody listens any more
				return
			}
		}
	}()
	copyMessages(connection, log)
	goodbye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
	_ = connection.WriteControl(websocket.CloseMessage, goodbye, time.Now().Add(lastWords))
	_ = connection.Close()
	<-read
}

func copyMessages(connection *websocket.Conn, log io.Reader) {
	kind, encode := websocket.BinaryMessage, func(data []byte) []byte { return data }
	if connection.Subprotocol() == logText {
		kind = websocket.TextMessage
		encode = func(data []byte) []byte { return base64.StdEncoding.AppendEncode(nil, data) }
	}
	send := func(data []byte) error {
		_ = connection.SetWriteDeadline(time.Now().Add(waitingTime)) // which cannot fail
		return connection.WriteMessage(kind, encode(data))
	}
	if send(nil) != nil {
		return
	}
	buffer := make([]byte, 32<<10)
	for {
		n, err := log.Read(buffer)
		if n > 0 && send(buffer[:n]) != nil || err != nil {
			return
		}
	}
}
