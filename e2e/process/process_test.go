package process

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skiff-sh/skiff/e2e/await"
)

func shell(t *testing.T, script string) *Process {
	t.Helper()
	p, err := Start(exec.Command("sh", "-c", script), filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

func TestStop(t *testing.T) {
	polite := shell(t, `trap 'exit 0' TERM; echo here; while :; do sleep 0.01; done`)
	err := await.Try(t.Context(), func() error { // until it has set its trap
		text, err := os.ReadFile(polite.Log)
		if err == nil && len(text) == 0 {
			err = errors.New("it says nothing")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := polite.Stop(); err != nil {
			t.Error(err)
		}
	}
	if err := shell(t, "exec sleep 100").Stop(); err != nil {
		t.Error(err)
	}
	failed := shell(t, "echo its last words; exit 3")
	<-failed.Ended()
	if err := failed.Stop(); err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "its last words") {
		t.Errorf("stop: %v", err)
	}
}

func TestReady(t *testing.T) {
	asked := 0
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked++; asked < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer web.Close()
	if err := shell(t, "exec sleep 100").Ready(t.Context(), Anyone(), web.URL); err != nil || asked != 3 {
		t.Errorf("asked %d times: %v", asked, err)
	}

	web.Config.Handler = http.NotFoundHandler()
	err := shell(t, "echo no port; exit 1").Ready(t.Context(), Anyone(), web.URL)
	if err == nil || !strings.Contains(err.Error(), "no port") || !strings.Contains(err.Error(), "ended") {
		t.Errorf("of one that ended: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := shell(t, "exec sleep 100").Ready(ctx, Anyone(), web.URL); err == nil || !strings.Contains(err.Error(), "not ready") {
		t.Errorf("of one that does not answer: %v", err)
	}
}

func TestSkiff(t *testing.T) {
	t.Setenv("SKIFF_BIN", "/nowhere/skiff")
	if _, err := Skiff(); err == nil {
		t.Error("what is not there was found")
	}
	t.Setenv("SKIFF_BIN", "")
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "a", "b"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Chdir(filepath.Join(root, "a", "b"))
	if path, err := Skiff(); err == nil {
		t.Errorf("found %s", path)
	}
	want := filepath.Join(root, "bin", "skiff")
	if err := os.Mkdir(filepath.Dir(want), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(want, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if path, err := Skiff(); err != nil || path != want {
		t.Errorf("found %q, %v", path, err)
	}
}
