package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/local"
	"github.com/skiff-sh/skiff/internal/store/bolt"
)

// outcome is the trailer of an answer that is streamed: "whole", or why it is
// not. An answer without one was cut off.
const (
	outcome = "Skiff-Outcome"
	whole   = "whole"
)

func socketPath(host config.Host) string { return filepath.Join(host.RunDir, "server.sock") }

// serveLocal answers this machine's root on a Unix socket until the context
// ends. A control plane that does not run as root may have no place for it.
func (s *server) serveLocal(ctx context.Context) error {
	host := config.NewHost(s.settings.DataDir)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /store", func(w http.ResponseWriter, r *http.Request) {
		if err := sendStore(w, r, s.engine.Snapshot); err != nil {
			s.log.Warn("copy of the store not sent", zap.Error(err))
		}
	})
	s.serveTokens(mux)
	err := local.Serve(ctx, socketPath(host), mux)
	if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
		s.log.Info("no local commands: their socket needs root", zap.Error(err))
		return nil
	}
	// Where no node runs the directory was made for the socket alone.
	_ = os.Remove(host.RunDir)
	return err
}

// sendStore streams a copy of the store and ends with its outcome.
func sendStore(w http.ResponseWriter, r *http.Request, snapshot func(context.Context, io.Writer) error) error {
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Trailer", outcome)
	sent := &sender{w: w, controller: http.NewResponseController(w)}
	err := snapshot(r.Context(), sent)
	switch {
	case err == nil:
		w.Header().Set(outcome, whole)
	case sent.bytes == 0:
		w.Header().Del("Trailer")
		http.Error(w, err.Error(), http.StatusInternalServerError)
	default:
		w.Header().Set(outcome, err.Error())
	}
	return err
}

// patience is how long a client may take to read what was sent. As long as a
// copy is under way no page of the store that it may need is used again.
const patience = time.Minute

// sender counts what it writes, and gives up on who does not read.
type sender struct {
	w          io.Writer
	controller *http.ResponseController
	bytes      int64
}

func (s *sender) Write(p []byte) (int, error) {
	if err := s.controller.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return 0, err
	}
	n, err := s.w.Write(p)
	s.bytes += int64(n)
	return n, err
}

// Copy writes a consistent copy of the data directory's store, which bolt.Open
// accepts: from the server that runs on it, writers going on meanwhile, or from
// the file as it is when none runs. What was written to w before an error is of
// no use.
func Copy(ctx context.Context, host config.Host, w io.Writer) error {
	answer, err := local.NewClient(socketPath(host)).Ask(ctx, http.MethodGet, "/store", nil)
	switch {
	case errors.Is(err, local.ErrNobody):
		return copyFile(ctx, host, w)
	case errors.Is(err, local.ErrForbidden):
		return errors.New("the cluster's store belongs to root: run it with sudo")
	case err != nil:
		return fmt.Errorf("ask the server for its store: %w", err)
	}
	defer answer.Body.Close()
	if _, err := io.Copy(w, answer.Body); err != nil {
		return fmt.Errorf("copy the store from the server: %w", err)
	}
	if got := answer.Trailer.Get(outcome); got != whole {
		return fmt.Errorf("copy the store from the server: %s", got)
	}
	return nil
}

// copyFile copies the store that no server has open.
func copyFile(ctx context.Context, host config.Host, w io.Writer) error {
	if err := FindStore(host); err != nil {
		return err
	}
	return bolt.Copy(ctx, host.StorePath(), w)
}

// FindStore returns an error for people when there is no store in the data
// directory.
func FindStore(host config.Host) error {
	_, err := os.Stat(host.StorePath())
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no store in %s: name the server's data directory with --data-dir", host.DataDir)
	}
	return err
}
