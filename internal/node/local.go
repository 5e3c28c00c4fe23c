package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"sync"
	"time"

	"github.com/skiff-sh/skiff/internal/agent"
	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/local"
)

// imageStore is what people may do with a node's images.
type imageStore interface {
	agent.Images
	Import(ctx context.Context, archive io.Reader) ([]agent.Image, error)
	Remove(ctx context.Context, ref string) error
	Pin(ctx context.Context, ref string, pinned bool) error
	PullNow(ctx context.Context, ref string) (agent.Image, error)
	// Received returns the bytes that a pull under way has received.
	Received(ref string) int64
}

func socketPath(host config.Host) string { return filepath.Join(host.RunDir, "node.sock") }

// serveLocal answers this machine's root on a Unix socket: the images commands.
func serveLocal(ctx context.Context, host config.Host, images imageStore) error {
	return local.Serve(ctx, socketPath(host), localHandler(images))
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
	mux.HandleFunc("POST /images/pin", func(w http.ResponseWriter, r *http.Request) {
		answer(w, nil, images.Pin(r.Context(), r.FormValue("name"), r.FormValue("pinned") == "true"))
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
		image, err := images.PullNow(r.Context(), name)
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
	host   config.Host
	client local.Client
}

// NewLocalClient returns a client of the node that owns the host's names.
func NewLocalClient(host config.Host) LocalClient {
	return LocalClient{host: host, client: local.NewClient(socketPath(host))}
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

// Pin keeps an image from being removed for room, or no longer does.
func (c LocalClient) Pin(ctx context.Context, name string, pinned bool) error {
	_, err := c.do(ctx, http.MethodPost, fmt.Sprintf("/images/pin?name=%s&pinned=%t", url.QueryEscape(name), pinned), nil)
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
	response, err := c.client.Ask(ctx, method, path, body)
	switch {
	case errors.Is(err, local.ErrNobody):
		return nil, fmt.Errorf("no node runs on %s: start skiff server or skiff agent, or name its data directory with --data-dir", c.host.DataDir)
	case errors.Is(err, local.ErrForbidden):
		return nil, errors.New("the node's images belong to root: run it with sudo")
	case err != nil:
		return nil, err
	}
	return response.Body, nil
}
