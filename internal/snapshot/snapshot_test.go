package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/skiff-sh/skiff/internal/store"
	"github.com/skiff-sh/skiff/internal/store/bolt"
)

// machine is a server's directory with a store in it, which is not open.
type machine struct {
	t      *testing.T
	server string
}

func newMachine(t *testing.T, objects ...string) machine {
	t.Helper()
	m := machine{t: t, server: filepath.Join(t.TempDir(), "server")}
	m.put(objects...)
	return m
}

// put writes objects, the keys also being the values.
func (m machine) put(objects ...string) {
	m.t.Helper()
	e := m.open()
	defer e.Close()
	for _, name := range objects {
		_, err := e.Commit(m.t.Context(), []store.Op{{
			Key: store.Key{Bucket: "configmaps", Name: name}, Expect: store.Any, Value: []byte(name),
		}})
		if err != nil {
			m.t.Fatal(err)
		}
	}
}

func (m machine) open() *bolt.Engine {
	m.t.Helper()
	e, err := bolt.Open(m.store(), bolt.Options{NoSync: true})
	if err != nil {
		m.t.Fatal(err)
	}
	return e
}

func (m machine) store() string { return filepath.Join(m.server, storeEntry) }

// objects returns the names of all objects, and the store's revision.
func (m machine) objects() (string, store.Revision) {
	m.t.Helper()
	e := m.open()
	defer e.Close()
	var names []string
	err := e.Scan(m.t.Context(), "configmaps", func(r store.Record) error {
		if string(r.Value) != r.Key.Name {
			m.t.Errorf("%s has the value %q", r.Key, r.Value)
		}
		names = append(names, r.Key.Name)
		return nil
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return strings.Join(names, " "), e.Revision()
}

// file writes a file below the server's directory.
func (m machine) file(name, text string) {
	m.t.Helper()
	path := filepath.Join(m.server, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		m.t.Fatal(err)
	}
}

func (m machine) read(name string) string {
	data, err := os.ReadFile(filepath.Join(m.server, name))
	if err != nil {
		return err.Error()
	}
	return string(data)
}

func (m machine) source() Source {
	return Source{Node: "box", Server: m.server, Compress: true, Copy: func(ctx context.Context, w io.Writer) error {
		e, err := bolt.Open(m.store(), bolt.Options{})
		if err != nil {
			return err
		}
		return errors.Join(e.Snapshot(ctx, w), e.Close())
	}}
}

func (m machine) directory() Directory { return NewDirectory(filepath.Join(m.server, snapshotsDir)) }

// save saves a snapshot and returns its bytes.
func (m machine) save(source Source) (File, []byte) {
	m.t.Helper()
	f, err := m.directory().Save(m.t.Context(), "on-demand", source)
	if err != nil {
		m.t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(m.server, snapshotsDir, f.Name))
	if err != nil {
		m.t.Fatal(err)
	}
	return f, data
}

// left returns what lies in the snapshots' directory beside the lock.
func (m machine) left() []string {
	entries, _ := os.ReadDir(filepath.Join(m.server, snapshotsDir))
	var names []string
	for _, e := range entries {
		if e.Name() != lockName {
			names = append(names, e.Name())
		}
	}
	return names
}

func TestSaveAndInspect(t *testing.T) {
	for name, change := range map[string]func(*Source){
		"compressed": func(*Source) {},
		"plain":      func(s *Source) { s.Compress = false },
		"encrypted":  func(s *Source) { s.Passphrase = "open sesame" },
		"full":       func(s *Source) { s.Full = true },
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, "a/1", "a/2", "b/1")
			m.file("tls/ca.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
			source := m.source()
			change(&source)
			f, data := m.save(source)
			got, err := Inspect(t.Context(), bytes.NewReader(data), source.Passphrase)
			if err != nil {
				t.Fatal(err)
			}
			if got.Objects["configmaps"] != 3 || got.Revision < 3 || got.Node != "box" || got.Full != source.Full ||
				got.StoreBytes == 0 || got.Skiff == "" || len(got.Authority) != 64 || time.Since(got.Taken) > time.Minute {
				t.Errorf("manifest: %+v", got)
			}
			if !strings.HasPrefix(f.Name, "on-demand-box-") || f.Bytes != int64(len(data)) || f.Encrypted != (source.Passphrase != "") {
				t.Errorf("file: %+v", f)
			}
			if (f.Manifest == nil) != f.Encrypted {
				t.Errorf("manifest in the list: %v", f.Manifest)
			}
			if left := m.left(); !slices.Equal(left, []string{f.Name}) {
				t.Errorf("left behind: %v", left)
			}
			info, err := os.Stat(filepath.Join(m.server, snapshotsDir, f.Name))
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("mode %v, %v", info.Mode(), err)
			}
		})
	}
}

// A snapshot whose clock went back is still the newest by its name.
func TestNamesRise(t *testing.T) {
	m := newMachine(t, "a/1")
	future := time.Now().Add(24 * time.Hour).Unix()
	m.file(fmt.Sprintf("snapshots/on-demand-box-%d.tar", future), "")
	m.file("snapshots/on-demand-box-2-9999999999.tar", "of another node")
	f, _ := m.save(m.source())
	if want := fmt.Sprintf("on-demand-box-%d.tar.zst", future+1); f.Name != want {
		t.Errorf("got %s, want %s", f.Name, want)
	}
}

// A save that fails leaves nothing behind.
func TestFailedSave(t *testing.T) {
	m := newMachine(t, "a/1")
	for name, c := range map[string]struct {
		copy func(context.Context, io.Writer) error
		want string
	}{
		"no copy":      {func(context.Context, io.Writer) error { return errors.New("the server has gone") }, "the server has gone"},
		"half a copy":  {func(_ context.Context, w io.Writer) error { _, err := w.Write(make([]byte, 9999)); return err }, "save snapshot"},
		"a full disk":  {func(context.Context, io.Writer) error { return &os.PathError{Op: "write", Err: syscall.ENOSPC} }, "free some space in"},
		"out of a job": {func(ctx context.Context, _ io.Writer) error { return context.Canceled }, "context canceled"},
	} {
		t.Run(name, func(t *testing.T) {
			source := m.source()
			source.Copy = c.copy
			_, err := m.directory().Save(t.Context(), "on-demand", source)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v", err)
			}
			if left := m.left(); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// What a killed process left goes with the next save; a process that still
// saves is left alone.
func TestKilledSave(t *testing.T) {
	m := newMachine(t, "a/1")
	m.file("snapshots/.save-1/store.db", "half")
	unlock, err := m.directory().lock()
	if err != nil {
		t.Fatal(err)
	}
	_, err = m.directory().Save(t.Context(), "on-demand", m.source())
	if err == nil || !strings.Contains(err.Error(), "another snapshot is being saved") || len(m.left()) != 1 {
		t.Errorf("got %v, left %v", err, m.left())
	}
	unlock()
	f, _ := m.save(m.source())
	if left := m.left(); !slices.Equal(left, []string{f.Name}) {
		t.Errorf("left behind: %v", left)
	}
}

// A store that is damaged makes no snapshot.
func TestDamagedStoreIsNotSaved(t *testing.T) {
	m := newMachine(t, "a/1", "a/2")
	data, err := os.ReadFile(m.store())
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?s)a/2.{14}a/2`).FindAllIndex(data, -1) // name, header, value
	if len(found) == 0 {
		t.Fatal("no record found")
	}
	for _, at := range found {
		data[at[1]-1] ^= 1
	}
	source := m.source()
	source.Copy = func(_ context.Context, w io.Writer) error { _, err := w.Write(data); return err }
	_, err = m.directory().Save(t.Context(), "on-demand", source)
	if !errors.Is(err, store.ErrDamaged) || len(m.left()) != 0 {
		t.Errorf("got %v, left %v", err, m.left())
	}
}

// Whatever is flipped or cut off: what is read is what was written, or an error.
func TestDamage(t *testing.T) {
	m := newMachine(t, "a/1", "a/2")
	m.file("tls/ca.key", "secret")
	for _, c := range []struct {
		name string
		set  func(*Source)
		step int
	}{
		{"plain", func(s *Source) { s.Compress = false }, 7},
		{"compressed", func(*Source) {}, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			source := m.source()
			source.Full = true
			c.set(&source)
			_, whole := m.save(source)
			contents := func(data []byte) (string, error) {
				var all strings.Builder
				_, err := read(t.Context(), bytes.NewReader(data), "", func(m Manifest, name string, content io.Reader) error {
					fmt.Fprint(&all, m, name)
					_, err := io.Copy(&all, content)
					return err
				})
				return all.String(), err
			}
			want, err := contents(whole)
			if err != nil {
				t.Fatal(err)
			}
			found := 0
			for i := 0; i < len(whole); i += c.step {
				flipped := bytes.Clone(whole)
				flipped[i] ^= 1 << (i % 8)
				if got, err := contents(flipped); err != nil {
					found++
				} else if got != want {
					t.Fatalf("byte %d of %d flipped: other contents without an error", i, len(whole))
				}
			}
			if found == 0 {
				t.Error("no damage was found at all")
			}
			for i := 0; i < len(whole)-1024; i += max(1, len(whole)/200) {
				got, err := contents(whole[:i])
				if !errors.Is(err, errDamaged) && got != want { // the last padding of a tar matters to nobody
					t.Fatalf("cut at %d of %d: %v", i, len(whole), err)
				}
			}
			if _, err := contents(append(bytes.Clone(whole), "more"...)); c.name == "compressed" && err == nil {
				t.Error("something behind the end was accepted")
			}
		})
	}
}

func TestDamagedWhenEncrypted(t *testing.T) {
	m := newMachine(t, "a/1")
	source := m.source()
	source.Passphrase = "open sesame"
	_, whole := m.save(source)
	flipped := bytes.Clone(whole)
	flipped[len(whole)/2] ^= 1
	if _, err := Inspect(t.Context(), bytes.NewReader(flipped), source.Passphrase); !errors.Is(err, errDamaged) {
		t.Errorf("got %v", err)
	}
	if _, err := Inspect(t.Context(), bytes.NewReader(whole), ""); !errors.Is(err, ErrPassphrase) {
		t.Errorf("no passphrase: got %v", err)
	}
	if _, err := Inspect(t.Context(), bytes.NewReader(whole), "close sesame"); err == nil || !strings.Contains(err.Error(), "the passphrase is not the one") {
		t.Errorf("another passphrase: got %v", err)
	}
	if bytes.Contains(whole, []byte("a/1")) {
		t.Error("the contents can be read")
	}
}

func TestNewerFormat(t *testing.T) {
	if _, err := decodeManifest([]byte(`{"format": 99, "skiff": "v9"}`)); err == nil || !strings.Contains(err.Error(), "use the skiff that saved it (v9)") {
		t.Errorf("got %v", err)
	}
}

func TestPrune(t *testing.T) {
	m := newMachine(t, "a/1")
	names := []string{
		"etcd-snapshot-box-5.tar.zst", "etcd-snapshot-box-100.tar.zst.age", "etcd-snapshot-box-20.tar", // the numbers tell, not the text
		"etcd-snapshot-box-2-1.tar.zst", // of the node box-2
		"on-demand-box-1.tar.zst", "etcd-snapshot-box-1.txt", "notes",
	}
	for _, name := range names {
		m.file("snapshots/"+name, "")
	}
	removed, err := Prune(t.Context(), m.directory(), Base("etcd-snapshot", "box"), 2)
	if err != nil || !slices.Equal(removed, []string{"etcd-snapshot-box-5.tar.zst"}) {
		t.Errorf("removed %v, %v", removed, err)
	}
	if left := m.left(); len(left) != len(names)-1 {
		t.Errorf("left: %v", left)
	}
	if removed, err := Prune(t.Context(), m.directory(), Base("etcd-snapshot", "box"), 0); err != nil || len(removed) != 0 {
		t.Errorf("0 keeps all: removed %v, %v", removed, err)
	}
	if removed, err := Prune(t.Context(), m.directory(), Base("etcd-snapshot", "box"), 1); err != nil || len(m.left()) != len(names)-2 {
		t.Errorf("removed %v, %v", removed, err)
	}
}

func TestRemove(t *testing.T) {
	m := newMachine(t, "a/1")
	f, _ := m.save(m.source())
	if err := m.directory().Remove(t.Context(), "nothing"); err == nil || !strings.Contains(err.Error(), `there is no snapshot "nothing": see skiff snapshot ls`) {
		t.Errorf("got %v", err)
	}
	if err := m.directory().Remove(t.Context(), "../store.db"); err == nil {
		t.Error("removed what is no snapshot")
	}
	if err := m.directory().Remove(t.Context(), strings.TrimSuffix(f.Name, ".tar.zst")); err != nil || len(m.left()) != 0 {
		t.Errorf("got %v, left %v", err, m.left())
	}
}

// A full disk is told with what to do, nothing is left behind, and when there
// is room the next save succeeds.
func TestFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	m := newMachine(t, "a/1")
	dir := filepath.Join(m.server, snapshotsDir)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=8k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	_, err := m.directory().Save(t.Context(), "on-demand", m.source())
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "free some space in "+dir) {
		t.Errorf("got %v", err)
	}
	if left := m.left(); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, "size=8m"); err != nil {
		t.Fatal(err)
	}
	m.save(m.source())
}
