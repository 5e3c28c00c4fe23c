package rest

import (
	"bytes"
	"context"
	"net/http"
	"time"

	"github.com/gorilla/websocket"

	"github.com/skiff-sh/skiff/internal/api"
)

// upgrader accepts watches over WebSocket, which is how pages in a browser
// watch. Where such a page came from says nothing: credentials decide.
var upgrader = websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}

// serveWebSocket runs a watch as messages, one for each event, always as JSON.
func (s *watchStream) serveWebSocket(ctx context.Context, w http.ResponseWriter, events *api.Watch) {
	connection, err := upgrader.Upgrade(w, s.q.Request, nil)
	if err != nil {
		return // the upgrader has answered
	}
	ctx, cancel := context.WithCancel(ctx)
	read := make(chan struct{})
	go func() { // ends with the connection, and is waited for
		defer close(read)
		defer cancel()
		for {
			if _, _, err := connection.NextReader(); err != nil {
				return
			}
		}
	}()
	s.form.media = mediaJSON
	s.messages = true
	s.w, s.flush = messages{connection}, func() error { return nil }
	s.run(ctx, events)
	goodbye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
	_ = connection.WriteControl(websocket.CloseMessage, goodbye, time.Now().Add(lastWords))
	_ = connection.Close()
	<-read
}

// messages sends each line as a message.
type messages struct{ connection *websocket.Conn }

func (m messages) Write(lines []byte) (int, error) {
	for line := range bytes.SplitSeq(lines, []byte{'\n'}) {
		if len(line) == 0 {
			continue
		}
		_ = m.connection.SetWriteDeadline(time.Now().Add(waitingTime)) // which cannot fail
		if err := m.connection.WriteMessage(websocket.TextMessage, line); err != nil {
			return 0, err
		}
	}
	return len(lines), nil
}
