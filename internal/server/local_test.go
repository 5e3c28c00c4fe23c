package server

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/store"
	"github.com/skiff-sh/skiff/internal/store/bolt"
)

// names returns the names of a bucket's records in a copy of a store.
func names(t *testing.T, copied []byte, bucket string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "store.db")
	if err := os.WriteFile(path, copied, 0o600); err != nil {
		t.Fatal(err)
	}
	engine, err := bolt.Open(path, bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	var all []string
	err = engine.Scan(t.Context(), bucket, func(r store.Record) error {
		all = append(all, r.Key.Name)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(all, " ")
}

// A copy comes from the server while it runs, and from the file afterwards.
func TestCopy(t *testing.T) {
	s := settings(t, t.TempDir())
	host := config.NewHost(s.DataDir)
	r := start(t, s)
	_, err := r.client.CoreV1().ConfigMaps("default").Create(t.Context(),
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "mine"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var running, stopped bytes.Buffer
	if err := Copy(t.Context(), host, &running); err != nil {
		t.Fatal(err)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(host.RunDir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the server left %s behind: %v", host.RunDir, err)
	}
	if err := Copy(t.Context(), host, &stopped); err != nil {
		t.Fatal(err)
	}
	for name, copied := range map[string]*bytes.Buffer{"running": &running, "stopped": &stopped} {
		if got := names(t, copied.Bytes(), kind.ConfigMap.Bucket()); !strings.Contains(got, "default/mine") {
			t.Errorf("%s: got %q", name, got)
		}
	}
}

func TestCopyOfNothing(t *testing.T) {
	dir := t.TempDir()
	err := Copy(t.Context(), config.NewHost(dir), io.Discard)
	if err == nil || !strings.Contains(err.Error(), "there is no store in "+dir+": name the server's data directory") {
		t.Errorf("got %v", err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}
}

// A copy that broke off is never taken for a whole one.
func TestBrokenCopy(t *testing.T) {
	for name, c := range map[string]struct {
		snapshot func(context.Context, io.Writer) error
		status   int
		outcome  string
	}{
		"whole": {func(_ context.Context, w io.Writer) error {
			_, err := io.WriteString(w, "all")
			return err
		}, http.StatusOK, whole},
		"at once": {func(context.Context, io.Writer) error { return errors.New("bad page") }, http.StatusInternalServerError, ""},
		"in the middle": {func(_ context.Context, w io.Writer) error {
			_, _ = io.WriteString(w, "half")
			return errors.New("bad page")
		}, http.StatusOK, "bad page"},
	} {
		t.Run(name, func(t *testing.T) {
			web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_ = sendStore(w, r, c.snapshot)
			}))
			defer web.Close()
			answer, err := http.Get(web.URL)
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			if _, err := io.ReadAll(answer.Body); err != nil {
				t.Fatal(err)
			}
			if answer.StatusCode != c.status || answer.Trailer.Get(outcome) != c.outcome {
				t.Errorf("status %d, outcome %q", answer.StatusCode, answer.Trailer.Get(outcome))
			}
		})
	}
}
