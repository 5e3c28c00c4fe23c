package snapshot

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skiff-sh/skiff/internal/store/bolt"
)

func restoreTo(m machine, data []byte) (Restored, error) {
	return Restore(m.t.Context(), m.server, bytes.NewReader(data), "")
}

// beside returns the names beside the server's directory.
func (m machine) beside() []string {
	entries, _ := os.ReadDir(filepath.Dir(m.server))
	var names []string
	for _, e := range entries {
		if e.Name() != filepath.Base(m.server) {
			names = append(names, e.Name())
		}
	}
	return names
}

// What is there is replaced and kept; what the snapshot does not bring stays.
func TestRestoreInPlace(t *testing.T) {
	m := newMachine(t, "a/1", "a/2")
	m.file("tls/ca.crt", "authority")
	f, data := m.save(m.source())
	m.put("a/3")
	_, before := m.objects()
	r, err := restoreTo(m, data)
	if err != nil {
		t.Fatal(err)
	}
	got, revision := m.objects()
	if got != "a/1 a/2" || revision <= before+1<<31 {
		t.Errorf("objects %q at revision %d, before %d", got, revision, before)
	}
	if m.read("tls/ca.crt") != "authority" || r.OtherAuthority {
		t.Errorf("the authority is %q, another: %t", m.read("tls/ca.crt"), r.OtherAuthority)
	}
	if left := m.left(); len(left) != 1 || left[0] != f.Name {
		t.Errorf("snapshots: %v", left)
	}
	if beside := m.beside(); len(beside) != 1 || filepath.Join(filepath.Dir(m.server), beside[0]) != r.Replaced {
		t.Fatalf("replaced: %q, there is %v", r.Replaced, beside)
	}
	old := machine{t: t, server: r.Replaced}
	if got, _ := old.objects(); got != "a/1 a/2 a/3" {
		t.Errorf("kept aside: %q", got)
	}
	// Twice in one second; what was handed out in between is not handed out again.
	_, err = restoreTo(m, data)
	if _, again := m.objects(); err != nil || len(m.beside()) != 2 || again <= revision+1<<31 {
		t.Errorf("again: %v, revision %d after %d, there is %v", err, again, revision, m.beside())
	}
}

func TestRestoreOnANewMachine(t *testing.T) {
	m := newMachine(t, "a/1")
	m.file("tls/ca.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
	m.file("tls/ca.key", "key")
	m.file("token", "token")
	m.file(".hidden", "temporary")
	m.file("store.db.old", "of another format")
	source := m.source()
	_, part := m.save(source)
	source.Full = true
	_, full := m.save(source)

	fresh := machine{t: t, server: filepath.Join(t.TempDir(), "data", "server")}
	r, err := restoreTo(fresh, full)
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := fresh.objects(); got != "a/1" || fresh.read("tls/ca.key") != "key" || fresh.read("token") != "token" {
		t.Errorf("objects %q, key %q, token %q", got, fresh.read("tls/ca.key"), fresh.read("token"))
	}
	if r.Replaced != "" || r.OtherAuthority || len(fresh.beside()) != 0 {
		t.Errorf("%+v, beside: %v", r, fresh.beside())
	}
	for _, name := range []string{".hidden", "store.db.old", "snapshots"} {
		if _, err := os.Lstat(filepath.Join(fresh.server, name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s came along", name)
		}
	}
	// A full one replaces the keys that are there as a whole.
	other := newMachine(t, "z/1")
	other.file("tls/ca.crt", "theirs")
	other.file("tls/admin.key", "theirs")
	if r, err = restoreTo(other, full); err != nil || r.OtherAuthority || other.read("tls/ca.key") != "key" {
		t.Errorf("%+v, %v, key %q", r, err, other.read("tls/ca.key"))
	}
	if !strings.Contains(other.read("tls/admin.key"), "no such file") {
		t.Error("a certificate of another authority is left")
	}
	// One that is not full says so.
	if r, err = restoreTo(machine{t: t, server: filepath.Join(t.TempDir(), "server")}, part); err != nil || !r.OtherAuthority {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestRunningServerIsRefused(t *testing.T) {
	m := newMachine(t, "a/1")
	_, data := m.save(m.source())
	e := m.open()
	defer e.Close()
	_, err := restoreTo(m, data)
	var locked *bolt.LockedError
	if !errors.As(err, &locked) || locked.PID != os.Getpid() {
		t.Errorf("got %v", err)
	}
	if beside := m.beside(); len(beside) != 0 {
		t.Errorf("left behind: %v", beside)
	}
}

// A snapshot that is not whole changes nothing, wherever it is damaged.
func TestDamagedSnapshotIsNotRestored(t *testing.T) {
	m := newMachine(t, "a/1")
	m.file("tls/ca.crt", "authority")
	source := m.source()
	source.Full = true
	_, data := m.save(source)
	m.put("a/2")
	for name, bad := range map[string][]byte{
		"cut off":           data[:len(data)-10],
		"not one":           []byte("hello"),
		"empty":             nil,
		"climbing":          forge(t, "server/../../evil"),
		"over the store":    forge(t, "server/store.db"),
		"of unknown things": forge(t, "elsewhere/x"),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := restoreTo(m, bad); !errors.Is(err, errDamaged) {
				t.Errorf("got %v", err)
			}
			if got, _ := m.objects(); got != "a/1 a/2" || m.read("tls/ca.crt") != "authority" || len(m.beside()) != 0 {
				t.Errorf("objects %q, authority %q, beside %v", got, m.read("tls/ca.crt"), m.beside())
			}
		})
	}
}

// forge returns a well-made archive with a file that does not belong in it.
func forge(t *testing.T, name string) []byte {
	t.Helper()
	var out bytes.Buffer
	a, err := newArchiver(&out, false, "", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(a.manifest(Manifest{Format: layout}), a.entry(name, 4, strings.NewReader("evil")), a.close())
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// Where two directories cannot be exchanged, one without data can be replaced,
// and one with data is left alone.
func TestReplaceEmpty(t *testing.T) {
	m := newMachine(t, "a/1")
	fresh := machine{t: t, server: m.server + "-fresh"}
	fresh.file("store.db", "new")
	if err := replaceEmpty(fresh.server, m.server); err == nil || !strings.Contains(err.Error(), "move "+m.server+" away, and restore again") {
		t.Errorf("got %v", err)
	}
	if got, _ := m.objects(); got != "a/1" {
		t.Errorf("objects %q", got)
	}
	bare := machine{t: t, server: filepath.Join(t.TempDir(), "server")}
	bare.file("store.db.lock", "")
	if err := replaceEmpty(fresh.server, bare.server); err != nil || bare.read("store.db") != "new" {
		t.Errorf("got %v, %q", err, bare.read("store.db"))
	}
}

// A server's directory may be a link to another disk.
func TestRestoreThroughALink(t *testing.T) {
	m := newMachine(t, "a/1")
	_, data := m.save(m.source())
	m.put("a/2")
	linked := machine{t: t, server: filepath.Join(t.TempDir(), "server")}
	if err := os.Symlink(m.server, linked.server); err != nil {
		t.Fatal(err)
	}
	if _, err := restoreTo(linked, data); err != nil {
		t.Fatal(err)
	}
	if got, _ := m.objects(); got != "a/1" || len(m.beside()) != 1 || len(linked.beside()) != 0 {
		t.Errorf("objects %q, beside %v and %v", got, m.beside(), linked.beside())
	}
}

// Snapshots are not put into snapshots, wherever they are kept.
func TestSnapshotsDoNotNest(t *testing.T) {
	m := newMachine(t, "a/1")
	m.file("tls/ca.key", "key")
	source := m.source()
	source.Full = true
	for range 2 {
		f, err := NewDirectory(filepath.Join(m.server, "backups")).Save(t.Context(), "on-demand", source)
		if err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(filepath.Join(m.server, "backups", f.Name))
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		_, err = read(t.Context(), bytes.NewReader(data), "", func(_ Manifest, name string, _ io.Reader) error {
			names = append(names, name)
			return nil
		})
		if got := strings.Join(names, " "); err != nil || got != "store.db server/tls/ca.key" {
			t.Errorf("it has %s, %v", got, err)
		}
	}
}

// What a restore left that was killed is no obstacle, and what it may have put
// aside already is never removed.
func TestKilledRestore(t *testing.T) {
	m := newMachine(t, "a/1")
	_, data := m.save(m.source())
	if err := os.MkdirAll(m.server+"-restoring/tls", 0o700); err != nil {
		t.Fatal(err)
	}
	kept := m.server + "-replaced-20200101-000000"
	if err := os.Mkdir(kept, 0o700); err != nil {
		t.Fatal(err)
	}
	r, err := restoreTo(m, data)
	if err != nil {
		t.Fatal(err)
	}
	if beside := m.beside(); len(beside) != 2 {
		t.Errorf("beside: %v, replaced %s", beside, r.Replaced)
	}
}

// Other programs read it, too.
func TestPlainTarHasItsManifestFirst(t *testing.T) {
	m := newMachine(t, "a/1")
	source := m.source()
	source.Compress = false
	_, data := m.save(source)
	var names []string
	for entries := tar.NewReader(bytes.NewReader(data)); ; {
		header, err := entries.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, header.Name)
	}
	if got := strings.Join(names, " "); got != "manifest.json store.db SHA256SUMS" {
		t.Errorf("entries: %s", got)
	}
}
