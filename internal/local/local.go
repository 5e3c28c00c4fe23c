// Package local is how commands on this machine talk to the skiff that runs
// here: HTTP over a Unix socket that root alone may open.
//
// Serve answers at a path until its context ends; Client asks there. The
// invariant: a socket file that nobody answers at counts as nobody there, so
// that what a killed process left behind deceives no one. The package knows no
// request's meaning.
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
	"syscall"

	"golang.org/x/sync/errgroup"
)

// Errors of Client.Ask that say why nobody was asked.
var (
	ErrNobody    = errors.New("nobody answers")
	ErrForbidden = errors.New("only root may ask")
)

// Serve answers on a socket at path, replacing a stale one, until the context
// ends. The socket is gone afterwards.
func Serve(ctx context.Context, path string, handler http.Handler) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("make directory of the socket: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove old socket: %w", err)
	}
	listener, err := listen(path)
	if err != nil {
		return fmt.Errorf("listen for local commands: %w", err)
	}
	server := &http.Server{Handler: handler}
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

// listen makes the socket under another name first: nobody but root may connect
// to it at any moment.
func listen(path string) (net.Listener, error) {
	hidden := path + ".new"
	if err := os.Remove(hidden); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	listener, err := net.Listen("unix", hidden)
	if err != nil {
		return nil, err
	}
	l := &named{UnixListener: listener.(*net.UnixListener), path: path}
	l.SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(hidden, 0o600), os.Rename(hidden, path)); err != nil {
		return nil, errors.Join(err, listener.Close(), os.Remove(hidden))
	}
	return l, nil
}

// named is a listener whose socket has been renamed since it was made.
type named struct {
	*net.UnixListener
	path string
}

// Close removes the socket before nobody answers at it any more.
func (n *named) Close() error {
	_ = os.Remove(n.path) // a stale one does no harm
	return n.UnixListener.Close()
}

// Client asks whoever serves at a path.
type Client struct{ http *http.Client }

// NewClient returns a client of the socket at path.
func NewClient(path string) Client {
	return Client{http: &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
	}}}
}

// Ask returns a good answer, whose body the caller closes. An answer that is
// not good is an error of its text. When nobody serves there the error is
// ErrNobody, when the caller may not ask ErrForbidden.
func (c Client) Ask(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, "http://local"+path, body)
	if err != nil {
		return nil, err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, explain(err)
	}
	if response.StatusCode != http.StatusOK {
		defer response.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(response.Body, 64<<10)) // what came is all there is to show
		return nil, errors.New(strings.TrimSpace(string(text)))
	}
	return response, nil
}

func explain(err error) error {
	switch {
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOTDIR):
		return ErrNobody
	case errors.Is(err, syscall.EACCES):
		return ErrForbidden
	}
	return err
}
