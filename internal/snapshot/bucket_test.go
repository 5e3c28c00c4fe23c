package snapshot

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/skiff-sh/skiff/internal/config"
)

// service runs an S3 service with a bucket, and returns settings for it. It
// does not look at keys.
func service(t *testing.T, wrap func(http.Handler) http.Handler) config.S3 {
	t.Helper()
	backend := s3mem.New()
	if err := backend.CreateBucket("backups"); err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(wrap(gofakes3.New(backend).Server()))
	t.Cleanup(web.Close)
	address, err := url.Parse(web.URL)
	if err != nil {
		t.Fatal(err)
	}
	s := config.DefaultServer().Snapshots.S3
	s.Endpoint, s.Insecure, s.LookupType = address.Host, true, "path"
	s.Bucket, s.Folder, s.AccessKey, s.SecretKey = "backups", "clusters/one", "key", "secret"
	return s
}

func asIs(h http.Handler) http.Handler { return h }

func bucketOf(t *testing.T, s config.S3) *Bucket {
	t.Helper()
	b, err := NewBucket(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A snapshot goes to a bucket and comes back from it.
func TestBucket(t *testing.T) {
	m := newMachine(t, "a/1", "a/2")
	f, _ := m.save(m.source())
	b := bucketOf(t, service(t, asIs))
	sent, err := b.Put(t.Context(), filepath.Join(m.server, snapshotsDir, f.Name))
	if err != nil {
		t.Fatal(err)
	}
	if sent.Location != "s3://backups/clusters/one/"+f.Name || sent.Bytes != f.Bytes {
		t.Errorf("sent: %+v", sent)
	}
	files, err := b.List(t.Context())
	if err != nil || len(files) != 1 || files[0].Name != f.Name || files[0].Bytes != f.Bytes || time.Since(files[0].Created) > time.Minute {
		t.Fatalf("list: %+v, %v", files, err)
	}
	archive, err := b.Open(t.Context(), strings.TrimSuffix(f.Name, ".tar.zst"))
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	other := machine{t: t, server: filepath.Join(t.TempDir(), "server")}
	if _, err := Restore(t.Context(), other.server, archive, ""); err != nil {
		t.Fatal(err)
	}
	if got, _ := other.objects(); got != "a/1 a/2" {
		t.Errorf("restored %q", got)
	}
	if _, err := b.Open(t.Context(), "nothing"); !errors.Is(err, ErrUnknown) {
		t.Errorf("got %v", err)
	}
	if err := b.Remove(t.Context(), f.Name); err != nil {
		t.Fatal(err)
	}
	if files, err := b.List(t.Context()); err != nil || len(files) != 0 {
		t.Errorf("list: %+v, %v", files, err)
	}
}

// A bucket has its own retention, and other things in it stay.
func TestBucketPrune(t *testing.T) {
	s := service(t, asIs)
	b := bucketOf(t, s)
	dir := t.TempDir()
	put := func(b *Bucket, names ...string) {
		for _, name := range names {
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, []byte(name), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := b.Put(t.Context(), path); err != nil {
				t.Fatal(err)
			}
		}
	}
	put(b, "etcd-snapshot-box-9.tar", "etcd-snapshot-box-10.tar", "etcd-snapshot-box-11.tar", "etcd-snapshot-other-1.tar", "notes")
	s.Folder = ""
	put(bucketOf(t, s), "etcd-snapshot-box-1.tar")
	removed, err := Prune(t.Context(), b, Base("etcd-snapshot", "box"), 2)
	if err != nil || !slices.Equal(removed, []string{"etcd-snapshot-box-9.tar"}) {
		t.Errorf("removed %v, %v", removed, err)
	}
	if files, err := bucketOf(t, s).List(t.Context()); err != nil || len(files) != 1 {
		t.Errorf("beside the folder: %v, %v", files, err)
	}
}

// The error names the place and the setting to look at.
func TestBucketErrors(t *testing.T) {
	good := service(t, asIs)
	m := newMachine(t, "a/1")
	f, _ := m.save(m.source())
	file := filepath.Join(m.server, snapshotsDir, f.Name)
	for name, c := range map[string]struct {
		settings func(*config.S3)
		want     string
	}{
		"no such bucket": {func(s *config.S3) { s.Bucket = "elsewhere" }, "make the bucket, or name another with --etcd-s3-bucket"},
		"refused": {func(s *config.S3) {
			*s = service(t, func(http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					w.WriteHeader(http.StatusForbidden)
					_, _ = io.WriteString(w, `<?xml version="1.0"?><Error><Code>SignatureDoesNotMatch</Code><Message>no</Message></Error>`)
				})
			})
		}, "see etcd-s3-access-key and etcd-s3-secret-key"},
		"stuck": {func(s *config.S3) {
			*s = service(t, func(http.Handler) http.Handler {
				return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					_, _ = io.Copy(io.Discard, r.Body) // only then is the client's end noticed
					<-r.Context().Done()
				})
			})
			s.Timeout = 50 * time.Millisecond
		}, "deadline exceeded"},
		"HTTPS expected": {func(s *config.S3) { s.Insecure, s.Timeout = false, time.Second }, "see the etcd-s3-… settings"},
	} {
		t.Run(name, func(t *testing.T) {
			s := good
			c.settings(&s)
			_, err := bucketOf(t, s).Put(t.Context(), file)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "bucket "+s.Bucket) {
				t.Errorf("got %v", err)
			}
		})
	}
	bad := good
	bad.EndpointCA = file
	if _, err := NewBucket(bad); err == nil || !strings.Contains(err.Error(), "there is no certificate in "+file) {
		t.Errorf("got %v", err)
	}
}

// A download that breaks off changes nothing, and does not pass for damage.
func TestBrokenDownload(t *testing.T) {
	m := newMachine(t, "a/1")
	f, _ := m.save(m.source())
	broken := false
	s := service(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if broken && r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, f.Name) {
				panic(http.ErrAbortHandler)
			}
			h.ServeHTTP(w, r)
		})
	})
	s.Timeout = 2 * time.Second
	b := bucketOf(t, s)
	if _, err := b.Put(t.Context(), filepath.Join(m.server, snapshotsDir, f.Name)); err != nil {
		t.Fatal(err)
	}
	broken = true
	archive, err := b.Open(t.Context(), f.Name)
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	m.put("a/2")
	if _, err := Restore(t.Context(), m.server, archive, ""); err == nil || errors.Is(err, errDamaged) {
		t.Errorf("got %v", err)
	}
	if got, _ := m.objects(); got != "a/1 a/2" {
		t.Errorf("objects %q", got)
	}
}

// What is larger than one part arrives whole.
func TestLargeFileInABucket(t *testing.T) {
	b := bucketOf(t, service(t, asIs))
	data := make([]byte, 20<<20)
	if _, err := rand.Read(data); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "on-demand-box-1.tar")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Put(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	back, err := b.Open(t.Context(), "on-demand-box-1")
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	if got, err := io.ReadAll(back); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes of %d, %v", len(got), len(data), err)
	}
}
