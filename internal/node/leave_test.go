package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skiff-sh/skiff/internal/config"
)

// Who is no member is told so, and a server what it is.
func TestNobodyLeaves(t *testing.T) {
	host := config.Host{DataDir: t.TempDir(), RunDir: t.TempDir()}
	leave := func(want string) {
		t.Helper()
		_, err := Leave(t.Context(), host, Departure{}, func(string) {})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v", err)
		}
	}
	leave("no agent runs on " + host.DataDir + ": start skiff agent")
	if err := os.MkdirAll(filepath.Dir(host.StorePath()), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(host.StorePath(), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	leave(host.DataDir + " is a server's data directory")
}
