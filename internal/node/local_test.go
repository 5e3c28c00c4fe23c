package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skiff-sh/skiff/internal/agent"
	"github.com/skiff-sh/skiff/internal/config"
)

// store is an image store of functions.
type store struct {
	agent.Images
	pull     func(ctx context.Context) (agent.Image, error)
	received int64
	imported string
	removed  string
	pins     []string
}

func (s *store) List(context.Context) ([]agent.Image, error) {
	return []agent.Image{{Ref: "docker.io/library/a:1", Size: 7}}, nil
}

func (s *store) PullNow(ctx context.Context, _ string) (agent.Image, error) {
	return s.pull(ctx)
}

func (s *store) Import(_ context.Context, archive io.Reader) ([]agent.Image, error) {
	data, err := io.ReadAll(archive)
	s.imported = string(data)
	return []agent.Image{{Ref: "imported"}}, err
}

func (s *store) Remove(_ context.Context, ref string) error {
	s.removed = ref
	return errors.New("no image " + ref)
}

func (s *store) Pin(_ context.Context, ref string, pinned bool) error {
	s.pins = append(s.pins, fmt.Sprintf("%s %t", ref, pinned))
	return nil
}

func (s *store) Received(string) int64 { return s.received }

// serve runs the socket over a store, and returns a client.
func serve(t *testing.T, s *store) LocalClient {
	t.Helper()
	host := config.Host{RunDir: t.TempDir(), DataDir: "/data"}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- serveLocal(ctx, host, s) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	client := NewLocalClient(host)
	for {
		if _, err := client.List(t.Context()); err == nil {
			return client
		}
		select {
		case err := <-ended:
			t.Fatal(err)
		default:
		}
	}
}

func TestLocalCommands(t *testing.T) {
	s := &store{}
	client := serve(t, s)
	if list, err := client.List(t.Context()); err != nil || len(list) != 1 || list[0].Size != 7 {
		t.Errorf("list: %v, %v", list, err)
	}
	if list, err := client.Import(t.Context(), strings.NewReader("archive")); err != nil || list[0].Ref != "imported" || s.imported != "archive" {
		t.Errorf("import: %v, %v, got %q", list, err, s.imported)
	}
	if err := client.Remove(t.Context(), "a/b:1"); err == nil || err.Error() != "no image a/b:1" || s.removed != "a/b:1" {
		t.Errorf("remove: %v, removed %q", err, s.removed)
	}
	for _, pinned := range []bool{true, false} {
		if err := client.Pin(t.Context(), "a/b:1", pinned); err != nil {
			t.Error(err)
		}
	}
	if got := strings.Join(s.pins, ", "); got != "a/b:1 true, a/b:1 false" {
		t.Errorf("pins: %q", got)
	}
	if info, err := os.Stat(filepath.Join(client.host.RunDir, "node.sock")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v", info.Mode(), err)
	}
}

// Whoever pulls is told how far it is until it ends.
func TestPullTellsHowFarItIs(t *testing.T) {
	told := make(chan int64)
	s := &store{received: 42, pull: func(ctx context.Context) (agent.Image, error) {
		select {
		case <-told:
			return agent.Image{Ref: "pulled"}, nil
		case <-ctx.Done():
			return agent.Image{}, ctx.Err()
		}
	}}
	image, err := serve(t, s).Pull(t.Context(), "a", func(received int64) {
		if received != 42 {
			t.Errorf("told %d", received)
		}
		select {
		case told <- received:
		default:
		}
	})
	if err != nil || image.Ref != "pulled" {
		t.Errorf("%v, %v", image, err)
	}
}

func TestPullFails(t *testing.T) {
	s := &store{pull: func(context.Context) (agent.Image, error) {
		return agent.Image{}, errors.New("the registry has no such image")
	}}
	_, err := serve(t, s).Pull(t.Context(), "a", func(int64) {})
	if err == nil || err.Error() != "the registry has no such image" {
		t.Errorf("got %v", err)
	}
}

func TestNobodyAnswers(t *testing.T) {
	_, err := NewLocalClient(config.Host{RunDir: t.TempDir(), DataDir: "/data"}).List(t.Context())
	if err == nil || !strings.Contains(err.Error(), "no node runs on /data: start skiff server") {
		t.Errorf("got %v", err)
	}
}
