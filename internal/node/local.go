package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/skiff-sh/skiff/internal/agent"
	"github.com/skiff-sh/skiff/internal/config"
)

// imageStore is what people may do with a node's images.
type imageStore interface {
	agent.Images
	Import(ctx context.Context, archive io.Reader) ([]agent.Image, error)
	Remove(ctx context.Context, ref string) error
	// Received returns the bytes that a pull under way has received.
	Received(ref string) int64
}

func socketPath(host config.Host) string { return filepath.Join(host.RunDir, "node.sock") }

// serveLocal answers this machine's root on a Unix socket: the images commands.
func serveLocal(ctx context.Context, host config.Host, images imageStore) error {
	path := socketPath(host)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove old socket: %w", err)
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("listen for local commands: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return errors.Join(fmt.Errorf("protect socket: %w", err), listener.Close())
	}
	server := &http.Server{Handler: localHandler(images)}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve local commands: %w", err)
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		return server.Close()
	})
	return group.Wait()
}

func localHandler(images imageStore) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /images", func(w http.ResponseWriter, r *http.Request) {
		list, err := images.List(r.Context())
		answer(w, list, err)
	})
	mux.HandleFunc("POST /images/import", func(w http.ResponseWriter, r *http.Request) {
		list, err := images.Import(r.Context(), r.Body)
		answer(w, list, err)
	})
	mux.HandleFunc("POST /images/pull", func(w http.ResponseWriter, r *http.Request) {
		pull(w, r, images)
	})
	mux.HandleFunc("POST /images/remove", func(w http.ResponseWriter, r *http.Request) {
		answer(w, nil, images.Remove(r.Context(), r.FormValue("name")))
	})
	return mux
}

// pullWord is one line of the answer to a pull: how far it is, or its end.
type pullWord struct {
	Received int64        `json:"received"`
	Image    *agent.Image `json:"image,omitempty"`
	Error    string       `json:"error,omitempty"`
}

// showEvery is how often a person who waits for a pull is told how far it is.
const showEvery = 200 * time.Millisecond

// pull fetches an image and tells meanwhile how much has come.
func pull(w http.ResponseWriter, r *http.Request, images imageStore) {
	name := r.FormValue("name")
	lines := json.NewEncoder(w)
	ended := make(chan pullWord, 1)
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() {
		image, err := images.Pull(r.Context(), name, nil)
		if err != nil {
			ended <- pullWord{Error: err.Error()}
			return
		}
		ended <- pullWord{Image: &image}
	})
	ticker := time.NewTicker(showEvery)
	defer ticker.Stop()
	for {
		word := pullWord{}
		select {
		case word = <-ended:
		case <-ticker.C:
			word.Received = images.Received(name)
		}
		if lines.Encode(word) != nil || word.Image != nil || word.Error != "" {
			return // the client has gone, or knows all
		}
		_ = http.NewResponseController(w).Flush() // the next line tells
	}
}

// answer writes a list of images, or the error's text.
func answer(w http.ResponseWriter, images []agent.Image, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(images) // the client sees a broken answer itself
}

// LocalClient gives commands to the node that runs on this machine.
type LocalClient struct {
	host config.Host
	http *http.Client
}

// NewLocalClient returns a client of the node that owns the host's names.
func NewLocalClient(host config.Host) LocalClient {
	return LocalClient{host: host, http: &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socketPath(host))
		},
	}}}
}

// List returns the node's images.
func (c LocalClient) List(ctx context.Context) ([]agent.Image, error) {
	return c.do(ctx, http.MethodGet, "/images", nil)
}

// Import stores the images of an OCI or docker archive and returns them.
func (c LocalClient) Import(ctx context.Context, archive io.Reader) ([]agent.Image, error) {
	return c.do(ctx, http.MethodPost, "/images/import", archive)
}

// Pull fetches an image from its registry. show is told now and then how many
// bytes have come.
func (c LocalClient) Pull(ctx context.Context, name string, show func(received int64)) (agent.Image, error) {
	body, err := c.ask(ctx, http.MethodPost, "/images/pull?name="+url.QueryEscape(name), nil)
	if err != nil {
		return agent.Image{}, err
	}
	defer body.Close()
	for lines := json.NewDecoder(body); ; {
		var word pullWord
		if err := lines.Decode(&word); err != nil {
			return agent.Image{}, fmt.Errorf("read the node's answer: %w", err)
		}
		switch {
		case word.Error != "":
			return agent.Image{}, errors.New(word.Error)
		case word.Image != nil:
			return *word.Image, nil
		}
		show(word.Received)
	}
}

// Remove removes an image's name.
func (c LocalClient) Remove(ctx context.Context, name string) error {
	_, err := c.do(ctx, http.MethodPost, "/images/remove?name="+url.QueryEscape(name), nil)
	return err
}

// do asks for something whose answer is a list of images.
func (c LocalClient) do(ctx context.Context, method, path string, body io.Reader) ([]agent.Image, error) {
	answer, err := c.ask(ctx, method, path, body)
	if err != nil {
		return nil, err
	}
	defer answer.Close()
	var images []agent.Image
	if err := json.NewDecoder(answer).Decode(&images); err != nil {
		return nil, fmt.Errorf("read the node's answer: %w", err)
	}
	return images, nil
}

// ask returns the body of a good answer, which the caller closes.
func (c LocalClient) ask(ctx context.Context, method, path string, body io.Reader) (io.ReadCloser, error) {
	request, err := http.NewRequestWithContext(ctx, method, "http://node"+path, body)
	if err != nil {
		return nil, err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, c.explain(err)
	}
	if response.StatusCode != http.StatusOK {
		defer response.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(response.Body, 64<<10)) // what came is all there is to show
		return nil, errors.New(string(trimNewline(text)))
	}
	return response.Body, nil
}

func (c LocalClient) explain(err error) error {
	switch {
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("no node runs on %s: start skiff server, or name its data directory with --data-dir", c.host.DataDir)
	case errors.Is(err, syscall.EACCES):
		return errors.New("the node's images belong to root: run it with sudo")
	}
	return fmt.Errorf("ask the node: %w", err)
}

func trimNewline(text []byte) []byte {
	for len(text) > 0 && text[len(text)-1] == '\n' {
		text = text[:len(text)-1]
	}
	return text
}
