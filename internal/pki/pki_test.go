package pki

import (
	"crypto/x509"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"
)

var build = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func clockAt(now time.Time) Clock { return Clock{Now: func() time.Time { return now }, Build: build} }

var serving = Subject{
	CommonName: "skiff-server", Names: []string{"kubernetes.default.svc", "localhost"},
	Addresses: []netip.Addr{netip.MustParseAddr("10.43.0.1")}, Server: true,
}

func open(t *testing.T, dir string, clock Clock) (*Files, Pair) {
	t.Helper()
	f, err := Open(dir, clock)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := f.Authority("ca", "skiff-ca")
	if err != nil {
		t.Fatal(err)
	}
	return f, ca
}

// A machine that believes it is 1970 makes certificates that hold when the
// clock is set right, and before.
func TestWrongClockAtFirstStart(t *testing.T) {
	for _, start := range []time.Time{time.Unix(0, 0), build.Add(-time.Hour), build.AddDate(20, 0, 0)} {
		f, ca := open(t, t.TempDir(), clockAt(start))
		leaf, err := f.Leaf("serving", ca, serving)
		if err != nil {
			t.Fatal(err)
		}
		for _, later := range []time.Time{start.Add(time.Minute), build.AddDate(0, 6, 0)} {
			_, err := leaf.Certificate.Verify(x509.VerifyOptions{Roots: ca.Pool(), CurrentTime: later, DNSName: "localhost"})
			if err != nil {
				t.Errorf("made at %s, seen at %s: %v", start, later, err)
			}
		}
		if !leaf.Certificate.NotBefore.Before(build) {
			t.Errorf("begins at %s, after the build", leaf.Certificate.NotBefore)
		}
	}
}

func TestFilesAreKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tls")
	f, ca := open(t, dir, clockAt(build))
	leaf, err := f.Leaf("serving", ca, serving)
	if err != nil {
		t.Fatal(err)
	}
	f2, ca2 := open(t, dir, clockAt(build.Add(time.Hour)))
	leaf2, err := f2.Leaf("serving", ca2, serving)
	if err != nil {
		t.Fatal(err)
	}
	if !ca.Certificate.Equal(ca2.Certificate) || !leaf.Certificate.Equal(leaf2.Certificate) {
		t.Error("certificates changed without need")
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 4 {
		t.Fatalf("%d files, want 4 (%v)", len(entries), err)
	}
	for _, e := range entries {
		if info, _ := e.Info(); info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %o", e.Name(), info.Mode().Perm())
		}
	}
}

func TestLeafIsReissued(t *testing.T) {
	for name, c := range map[string]struct {
		subject Subject
		at      time.Time
		same    bool
	}{
		"nothing changed": {subject: serving, at: build.AddDate(0, 1, 0), same: true},
		"new name":        {subject: Subject{CommonName: "skiff-server", Names: []string{"box.example"}, Server: true}, at: build},
		"about to end":    {subject: serving, at: build.Add(leafLife - renewBefore + time.Hour)},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			f, ca := open(t, dir, clockAt(build))
			before, err := f.Leaf("serving", ca, serving)
			if err != nil {
				t.Fatal(err)
			}
			f, ca = open(t, dir, clockAt(c.at))
			after, err := f.Leaf("serving", ca, c.subject)
			if err != nil {
				t.Fatal(err)
			}
			if before.Certificate.Equal(after.Certificate) != c.same {
				t.Errorf("kept: %t, want %t", !c.same, c.same)
			}
		})
	}
}

func TestDamagedAuthorityIsNotReplaced(t *testing.T) {
	dir := t.TempDir()
	f, _ := open(t, dir, clockAt(build))
	if err := os.WriteFile(filepath.Join(dir, "ca.crt"), []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := f.Authority("ca", "skiff-ca")
	if err == nil || !strings.Contains(err.Error(), "ca.crt is damaged") || !strings.Contains(err.Error(), "restore it") {
		t.Errorf("got %v", err)
	}
}

func TestAuthorityWithoutItsKeyIsNotReplaced(t *testing.T) {
	dir := t.TempDir()
	f, _ := open(t, dir, clockAt(build))
	if err := os.Remove(filepath.Join(dir, "ca.key")); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Authority("ca", "skiff-ca"); err == nil || !strings.Contains(err.Error(), "its key is not there") {
		t.Errorf("got %v", err)
	}
}

func TestKubeconfig(t *testing.T) {
	f, ca := open(t, t.TempDir(), clockAt(build))
	admin, err := f.Leaf("admin", ca, Subject{CommonName: "system:admin", Organizations: []string{"system:masters"}, Client: true})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "etc", "kubeconfig.yaml")
	k := Kubeconfig{Server: "https://127.0.0.1:6443", Authority: ca, Client: admin, User: "admin"}
	if err := k.Write(path, 0o640); err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		t.Fatal(err)
	}
	if config.Host != k.Server || len(config.CertData) == 0 || len(config.KeyData) == 0 || len(config.CAData) == 0 {
		t.Errorf("incomplete: %+v", config)
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o640 {
		t.Errorf("mode %o", info.Mode().Perm())
	}
}
