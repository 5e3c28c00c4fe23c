package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/server"
	"github.com/skiff-sh/skiff/internal/store"
	"github.com/skiff-sh/skiff/internal/store/bolt"
)

// storeIn makes a store in a data directory and returns its path.
func storeIn(t *testing.T, directory string) string {
	t.Helper()
	path := config.NewHost(directory).StorePath()
	engine, err := bolt.Open(path, bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		op := store.Op{Key: store.Key{Bucket: "configmaps", Name: fmt.Sprintf("default/c%d", i)}, Value: fmt.Appendf(nil, "value of c%d", i)}
		if _, err := engine.Commit(t.Context(), []store.Op{op}); err != nil {
			t.Fatal(err)
		}
	}
	if err := engine.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// spoil changes one record behind the store's back.
func spoil(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bytes.ReplaceAll(data, []byte("value of c1"), []byte("value of cX")), 0o600); err != nil {
		t.Fatal(err)
	}
}

func run(ctx context.Context, args ...string) (string, error) {
	var out bytes.Buffer
	c := New(&out)
	c.SetArgs(args)
	err := c.ExecuteContext(ctx)
	return out.String(), err
}

func TestStoreCheck(t *testing.T) {
	directory := t.TempDir()
	path := storeIn(t, directory)
	out, err := run(t.Context(), "store", "check", "--data-dir", directory)
	if err != nil || !strings.Contains(out, "configmaps   3\n") || !strings.Contains(out, "revision 3, format 1, ") ||
		!strings.HasSuffix(out, "are free, stopped cleanly\nthe store is whole\n") {
		t.Errorf("a whole store: %v\n%s", err, out)
	}
	spoil(t, path)
	for _, args := range [][]string{{"--data-dir", directory}, {path}} {
		out, err = run(t.Context(), append([]string{"store", "check"}, args...)...)
		if !errors.Is(err, store.ErrDamaged) || !strings.Contains(err.Error(), "(1 findings); go back with `skiff snapshot restore`") {
			t.Errorf("%v: %v", args, err)
		}
		if !strings.HasPrefix(out, "configmaps/default/c1: its checksum is ") || !strings.Contains(out, "configmaps   2\n") {
			t.Errorf("%v:\n%s", args, out)
		}
	}
	out, err = run(t.Context(), "store", "check", "-o", "json", path)
	var report storeReport
	if cause := json.Unmarshal([]byte(out), &report); cause != nil || !errors.Is(err, store.ErrDamaged) {
		t.Fatalf("%v, %v\n%s", err, cause, out)
	}
	if report.Whole || len(report.Damages) != 1 || report.Damages[0].Kind != "configmaps" || report.Damages[0].Name != "default/c1" ||
		report.Objects["configmaps"] != 2 || !report.Clean || report.Revision != 3 {
		t.Errorf("got %+v", report)
	}
}

func TestStoreCheckOfNothing(t *testing.T) {
	directory := t.TempDir()
	for _, args := range [][]string{{"check"}, {"check", "none.db"}, {"salvage"}} {
		_, err := run(t.Context(), append([]string{"store", "--data-dir", directory}, args...)...)
		if err == nil || !strings.Contains(err.Error(), "there is none at ") || !strings.Contains(err.Error(), "name the data directory or the file") {
			t.Errorf("%v: %v", args, err)
		}
	}
}

func TestStoreSalvage(t *testing.T) {
	directory := t.TempDir()
	path := storeIn(t, directory)
	spoil(t, path)
	damaged, _ := os.ReadFile(path)
	other := filepath.Join(t.TempDir(), "other.db")
	out, err := run(t.Context(), "store", "salvage", "--data-dir", directory, "--output", other)
	if err != nil || !strings.HasSuffix(out, other+" has what is intact; "+path+" is as it was\n") {
		t.Errorf("to another file: %v\n%s", err, out)
	}
	if now, _ := os.ReadFile(path); !bytes.Equal(now, damaged) {
		t.Error("with --output the store was changed")
	}
	if _, err := run(t.Context(), "store", "salvage", "--data-dir", directory, "--output", other); err == nil || !strings.Contains(err.Error(), "move it away first") {
		t.Errorf("over a file: %v", err)
	}
	out, err = run(t.Context(), "store", "salvage", "--data-dir", directory)
	if err != nil || !strings.HasPrefix(out, "configmaps/default/c1: its checksum is ") || !strings.Contains(out, "configmaps   2\n") {
		t.Fatalf("in place: %v\n%s", err, out)
	}
	kept, _ := filepath.Glob(path + ".damaged-*")
	if len(kept) != 1 || !strings.HasSuffix(out, path+" has what is intact; "+kept[0]+" is as it was\n") {
		t.Fatalf("kept %v\n%s", kept, out)
	}
	if now, _ := os.ReadFile(kept[0]); !bytes.Equal(now, damaged) {
		t.Error("the file that was kept is not the damaged one")
	}
	for _, whole := range []string{path, other} {
		if out, err := run(t.Context(), "store", "check", whole); err != nil {
			t.Errorf("check %s: %v\n%s", whole, err, out)
		}
	}
	files, _ := os.ReadDir(filepath.Dir(path))
	if len(files) != 3 { // the store, its lock, the damaged one
		t.Errorf("left behind: %v", files)
	}
}

// A server that runs is asked for a copy, and keeps its store from a salvage.
func TestStoreOfRunningServer(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the local socket takes root")
	}
	settings := config.DefaultServer()
	settings.DataDir, settings.DisableAgent = t.TempDir(), true
	settings.NodeIPs = []netip.Addr{netip.MustParseAddr("192.0.2.1")}
	settings.BindAddress, settings.HTTPSListenPort = netip.MustParseAddr("127.0.0.1"), freePort(t)
	if err := settings.Validate(); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx, settings, zap.NewNop()) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("stop: %v", err)
		}
	}()
	socket := filepath.Join(config.NewHost(settings.DataDir).RunDir, "server.sock")
	for deadline := time.Now().Add(20 * time.Second); ; <-time.After(5 * time.Millisecond) {
		if _, err := os.Stat(socket); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("the server does not answer: %v", err)
		}
	}
	out, err := run(t.Context(), "store", "check", "--data-dir", settings.DataDir)
	if err != nil || !strings.Contains(out, "namespaces ") || !strings.Contains(out, "in use by a server\nthe store is whole") {
		t.Errorf("check: %v\n%s", err, out)
	}
	_, err = run(t.Context(), "store", "salvage", "--data-dir", settings.DataDir)
	var locked *bolt.LockedError
	if !errors.As(err, &locked) || locked.PID != os.Getpid() || !strings.Contains(err.Error(), fmt.Sprintf("process %d holds the store", os.Getpid())) {
		t.Errorf("salvage: %v", err)
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
