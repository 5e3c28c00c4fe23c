package server

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// A request under way gets its answer; then nothing keeps the server, though
// the client would keep its HTTP/2 connection.
func TestDrain(t *testing.T) {
	begun, finish := make(chan struct{}), make(chan struct{})
	requests := newDrain()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(begun)
			<-finish
		}
		_, _ = io.WriteString(w, "whole")
	}))
	server.EnableHTTP2 = true
	server.Config.ConnState = requests.note
	server.StartTLS()
	defer server.Close()
	// httptest has put a ConnState of its own in front, which calls ours.
	answer := make(chan string, 1)
	ask := func(path string) {
		response, err := server.Client().Get(server.URL + path)
		if err != nil {
			answer <- err.Error()
			return
		}
		defer response.Body.Close()
		if response.ProtoMajor != 2 {
			t.Errorf("spoke %s", response.Proto)
		}
		body, err := io.ReadAll(response.Body)
		if err != nil {
			body = []byte(err.Error())
		}
		answer <- string(body)
	}
	ask("/")
	if got := <-answer; got != "whole" {
		t.Fatal(got)
	}
	go ask("/slow")
	<-begun
	ended := make(chan error, 1)
	go func() { ended <- requests.end(context.Background(), server.Config) }()
	select {
	case err := <-ended:
		t.Fatalf("ended with a request under way: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(finish)
	if got := <-answer; got != "whole" {
		t.Errorf("the last answer was %q", got)
	}
	begin := time.Now()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took > 500*time.Millisecond {
		t.Errorf("ended %v after the last answer", took)
	}
}

func TestDrainGivesUp(t *testing.T) {
	hang := make(chan struct{})
	begun := make(chan struct{})
	requests := newDrain()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(begun)
		<-hang
	}))
	server.Config.ConnState = requests.note
	server.Start()
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		if response, err := http.Get(server.URL); err == nil {
			response.Body.Close()
		}
	}()
	<-begun
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if err := requests.end(ctx, server.Config); err != nil {
		t.Error(err)
	}
	<-asked
	close(hang)
	server.Close()
}
