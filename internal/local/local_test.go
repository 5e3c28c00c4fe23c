package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// serve runs a handler at a path and returns what ends it.
func serve(t *testing.T, path string, handler http.HandlerFunc) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, path, handler) }()
	done := false
	stop = func() {
		if done {
			return
		}
		done = true
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	for {
		response, err := NewClient(path).Ask(t.Context(), http.MethodGet, "/", nil)
		if err == nil {
			response.Body.Close()
			return stop
		}
		select {
		case err := <-ended:
			t.Fatal(err)
		default:
		}
	}
}

func TestAskAndAnswer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "x.sock")
	stop := serve(t, path, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/bad" {
			http.Error(w, "that went wrong", http.StatusUnprocessableEntity)
			return
		}
		fmt.Fprint(w, "well")
	})
	response, err := NewClient(path).Ask(t.Context(), http.MethodGet, "/good", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if text, err := io.ReadAll(response.Body); err != nil || string(text) != "well" {
		t.Errorf("got %q, %v", text, err)
	}
	if _, err := NewClient(path).Ask(t.Context(), http.MethodGet, "/bad", nil); err == nil || err.Error() != "that went wrong" {
		t.Errorf("got %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v", info, err)
	}
	stop()
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

// What a killed process leaves is nobody, and the next one takes its place.
func TestStaleSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.sock")
	if _, err := NewClient(path).Ask(t.Context(), http.MethodGet, "/", nil); !errors.Is(err, ErrNobody) {
		t.Errorf("no socket: got %v", err)
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	listener.Close()
	if _, err := NewClient(path).Ask(t.Context(), http.MethodGet, "/", nil); !errors.Is(err, ErrNobody) {
		t.Errorf("stale socket: got %v", err)
	}
	serve(t, path, func(http.ResponseWriter, *http.Request) {})
}

func TestNoRoomForTheSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), strings.Repeat("long", 40))
	if err := Serve(t.Context(), path, http.NotFoundHandler()); err == nil {
		t.Error("a path that is too long for a socket was accepted")
	}
}
