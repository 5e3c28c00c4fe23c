package image

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/skiff-sh/skiff/internal/agent"
)

// mirror is a registry with a certificate of its own and a password, which serves
// images that were pushed to its plain side.
type mirror struct {
	host, plain string
	authority   string // file with its certificate

	mu       sync.Mutex
	asked    []string // paths
	ranges   []string // of what was asked for in parts
	cut      int      // bytes after which the next large answer ends
	spoil    bool     // the next large answer is another
	password string
}

func newMirror(t *testing.T, password string) *mirror {
	t.Helper()
	m := &mirror{password: password}
	images := registry.New()
	plain := httptest.NewServer(images)
	t.Cleanup(plain.Close)
	secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { m.serve(images, w, r) }))
	t.Cleanup(secure.Close)
	m.plain, m.host = strings.TrimPrefix(plain.URL, "http://"), strings.TrimPrefix(secure.URL, "https://")
	m.authority = filepath.Join(t.TempDir(), "ca.pem")
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})
	if err := os.WriteFile(m.authority, certificate, 0o600); err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *mirror) serve(images http.Handler, w http.ResponseWriter, r *http.Request) {
	if _, given, _ := r.BasicAuth(); given != m.password {
		w.Header().Set("WWW-Authenticate", `Basic realm="mirror"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	m.mu.Lock()
	m.asked = append(m.asked, r.URL.Path)
	if part := r.Header.Get("Range"); part != "" && part != "bytes=0-" {
		m.ranges = append(m.ranges, part)
	}
	cut, spoil := m.cut, m.spoil
	m.mu.Unlock()
	if !strings.Contains(r.URL.Path, "/blobs/") {
		images.ServeHTTP(w, r)
		return
	}
	answer := httptest.NewRecorder()
	whole := r.Clone(r.Context())
	whole.Header.Del("Range")
	images.ServeHTTP(answer, whole)
	body := answer.Body.Bytes()
	if answer.Code != http.StatusOK {
		w.WriteHeader(answer.Code)
		return
	}
	if len(body) <= 1<<16 || cut == 0 && !spoil {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
		return
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	m.mu.Lock()
	m.cut, m.spoil = 0, false
	m.mu.Unlock()
	if spoil {
		body[len(body)/2] ^= 1
		_, _ = w.Write(body)
		return
	}
	_, _ = w.Write(body[:cut])
	w.(http.Flusher).Flush()
	panic(http.ErrAbortHandler) // as a connection that is cut
}

// settings writes a registries.yaml.
func (s *Store) settings(t *testing.T, text string) {
	t.Helper()
	if s.config.Registries == "" {
		s.config.Registries = filepath.Join(t.TempDir(), "registries.yaml")
	}
	if err := os.WriteFile(s.config.Registries, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (m *mirror) trusted() string {
	return fmt.Sprintf("%s: {auth: {username: me, password: %s}, tls: {ca_file: %s}}", m.host, m.password, m.authority)
}

func TestMirror(t *testing.T) {
	s := newStore(t)
	m := newMirror(t, "secret")
	image := newImage(t, "mirrored")
	push(t, image, m.plain+"/hub/team/app:2", "")
	const ref = "registry.example.org/team/app:2"

	s.settings(t, fmt.Sprintf("mirrors: {registry.example.org: {endpoint: ['https://%s'], rewrite: {'^team/(.*)': 'hub/team/$1'}}}", m.host))
	s.config.OnlyMirrors = true
	if _, err := s.Pull(t.Context(), ref, nil); err == nil || !strings.Contains(err.Error(), "certificate signed by unknown authority") {
		t.Errorf("of an authority that nobody trusts: %v", err)
	}
	s.settings(t, fmt.Sprintf("mirrors: {registry.example.org: {endpoint: ['https://%s'], rewrite: {'^team/(.*)': 'hub/team/$1'}}}\nconfigs: {%s: {tls: {ca_file: %s}}}", m.host, m.host, m.authority))
	if _, err := s.Pull(t.Context(), ref, nil); !errors.Is(err, ErrUnauthorized) {
		t.Errorf("without a password: %v", err)
	}
	t.Log("what changes in the file counts from the next pull on")
	s.settings(t, fmt.Sprintf("mirrors: {registry.example.org: {endpoint: ['https://%s'], rewrite: {'^team/(.*)': 'hub/team/$1'}}}\nconfigs: {%s}", m.host, m.trusted()))
	got, err := s.Pull(t.Context(), ref, nil)
	if err != nil {
		t.Fatal(err)
	}
	expectWhole(t, s, got, image, ref)
	for _, path := range m.asked {
		if path != "/v2/" && !strings.HasPrefix(path, "/v2/hub/team/app/") {
			t.Errorf("asked for %s", path)
		}
	}
	if _, err := s.Pull(t.Context(), "registry.example.org/team/other:1", nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("what the mirror has not: %v", err)
	}

	s.settings(t, "mirrors: {registry.example.org: {endpoint: ['ftp://x']}}")
	if _, err := s.Pull(t.Context(), ref, nil); err == nil || !strings.Contains(err.Error(), "registries.yaml") {
		t.Errorf("of a bad file: %v", err)
	}
}

// The Pod's own credentials come before the node's.
func TestCredentialsBeforeSettings(t *testing.T) {
	s := newStore(t)
	m := newMirror(t, "secret")
	push(t, newImage(t, "private"), m.plain+"/app:1", "")
	s.settings(t, fmt.Sprintf("configs: {%s: {auth: {username: node, password: wrong}, tls: {ca_file: %s}}}", m.host, m.authority))
	if _, err := s.Pull(t.Context(), m.host+"/app:1", nil); !errors.Is(err, ErrUnauthorized) {
		t.Errorf("with the node's: %v", err)
	}
	for _, c := range [][]agent.Credential{
		{{Registry: "elsewhere.example.org", Username: "me", Password: "secret"}},
		{{Registry: m.host, Username: "me", Password: "secret"}},
	} {
		_, err := s.Pull(t.Context(), m.host+"/app:1", c)
		if right := c[0].Registry == m.host; (err == nil) != right {
			t.Errorf("with those of %s: %v", c[0].Registry, err)
		}
	}
}

// The registry itself is asked for what its mirror does not have.
func TestRegistryAfterItsMirror(t *testing.T) {
	s := newStore(t)
	empty, full := newMirror(t, ""), newMirror(t, "")
	image := newImage(t, "original")
	push(t, image, full.plain+"/app:1", "")
	s.settings(t, fmt.Sprintf("mirrors: {'%s': {endpoint: ['https://%s', 'http://127.0.0.1:1']}}\nconfigs: {'*': {tls: {insecure_skip_verify: true}}}", full.host, empty.host))
	got, err := s.Pull(t.Context(), full.host+"/app:1", nil)
	if err != nil {
		t.Fatal(err)
	}
	expectWhole(t, s, got, image, full.host+"/app:1")
	if len(empty.asked) == 0 {
		t.Error("the mirror was not asked")
	}
	s.config.OnlyMirrors = true
	if _, err := s.Pull(t.Context(), full.host+"/app:1", nil); err == nil {
		t.Error("the registry was asked that was not to be")
	}
}

// noise puts an image of a megabyte that does not shrink into the registry, which the
// store trusts from then on.
func (m *mirror) noise(t *testing.T, s *Store) (image v1.Image, ref string) {
	t.Helper()
	noise := make([]byte, 1<<20)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range noise {
		noise[i] = byte(random.Uint32())
	}
	image = newImage(t, string(noise))
	push(t, image, m.plain+"/app:1", "")
	s.settings(t, fmt.Sprintf("configs: {%s: {tls: {ca_file: %s}}}", m.host, m.authority))
	return image, m.host + "/app:1"
}

// A pull that is cut goes on where it was, and what comes must be what was asked for.
func TestPullIsCut(t *testing.T) {
	s := newStore(t)
	m := newMirror(t, "")
	image, ref := m.noise(t, s)

	m.cut = 600 << 10
	_, err := s.Pull(t.Context(), ref, nil)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut: %v", err)
	}
	got, err := s.Pull(t.Context(), ref, nil)
	if err != nil {
		t.Fatal(err)
	}
	expectWhole(t, s, got, image, ref)
	if len(m.ranges) == 0 || !strings.HasPrefix(m.ranges[0], "bytes=6") {
		t.Errorf("the rest was asked for as %q, want what follows the first 600 KiB", m.ranges)
	}
	left, err := s.config.Client.LeasesService().List(s.scope(t.Context()))
	if err != nil || len(left) > 0 {
		t.Errorf("leases left: %v, %v", left, err)
	}
}

func TestPullOfSomethingElse(t *testing.T) {
	s := newStore(t)
	m := newMirror(t, "")
	image, ref := m.noise(t, s)
	m.spoil = true
	if _, err := s.Pull(t.Context(), ref, nil); err == nil || !strings.Contains(err.Error(), "unexpected commit digest") {
		t.Errorf("a layer with another digest: %v", err)
	}
	if _, ok, err := s.Get(t.Context(), ref); ok || err != nil {
		t.Errorf("it is present: %v, %v", ok, err)
	}
	got, err := s.Pull(t.Context(), ref, nil)
	if err != nil {
		t.Fatal(err)
	}
	expectWhole(t, s, got, image, ref)
}

// Who pulled an image is remembered, until it turns out that anybody may; and what else
// is said of it stays when it is pulled again.
func TestWhoPulledIsRemembered(t *testing.T) {
	s := newStore(t)
	private, _, _ := newRegistry(t, "secret")
	push(t, newImage(t, "private"), private+"/app:1", "secret")
	mine := agent.Credential{Registry: private, Username: "me", Password: "secret", Source: "1"}
	yours := mine
	yours.Source = "2"
	pull := func(with ...agent.Credential) []string {
		t.Helper()
		pulled, err := s.Pull(t.Context(), private+"/app:1", with)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok, err := s.Get(t.Context(), private+"/app:1"); !ok || err != nil || !slices.Equal(got.Secrets, pulled.Secrets) {
			t.Errorf("it is known by %v, %v: want %v", got.Secrets, err, pulled.Secrets)
		}
		return pulled.Secrets
	}
	if got := pull(mine); len(got) != 2 || !slices.Contains(got, mine.Marks()[1]) {
		t.Errorf("it is known by %v", got)
	}
	if err := s.Pin(t.Context(), private+"/app:1", true); err != nil {
		t.Fatal(err)
	}
	if got := pull(yours); len(got) != 3 {
		t.Errorf("by another's, too: %v", got)
	}
	s.settings(t, fmt.Sprintf("configs: {'%s': {auth: {username: node, password: secret}}}", private))
	if got := pull(); len(got) != 0 {
		t.Errorf("by the node's: %v", got)
	}
	if got := pull(mine); len(got) != 0 {
		t.Errorf("everybody had it, and now only %v", got)
	}
	all, err := s.List(t.Context())
	if err != nil || len(all) != 1 || !all[0].Kept {
		t.Errorf("the pin is lost: %+v, %v", all, err)
	}
}
