package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/skiff-sh/skiff/internal/auth"
	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/pki"
	"github.com/skiff-sh/skiff/internal/snapshot"
)

// machine is one that has not joined. It trusts roots, or whoever answers.
type machine struct {
	t      *testing.T
	server string
	client http.Client
}

func newMachine(t *testing.T, s config.Server, roots *x509.CertPool) *machine {
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, InsecureSkipVerify: roots == nil}, //nolint:gosec // as a machine that has only a token
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &machine{
		t: t, server: "https://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(s.HTTPSListenPort)),
		client: http.Client{Transport: transport},
	}
}

// get returns the code and the body, or the message of a Status.
func (m *machine) get(path, authorization string) (int, string) {
	m.t.Helper()
	r, err := http.NewRequestWithContext(m.t.Context(), http.MethodGet, m.server+path, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	answer, err := m.client.Do(r)
	if err != nil {
		m.t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		m.t.Fatal(err)
	}
	var status metav1.Status
	if answer.StatusCode != http.StatusOK && json.Unmarshal(body, &status) == nil {
		return answer.StatusCode, status.Message
	}
	return answer.StatusCode, string(body)
}

const clusterPath = "/api/v1/namespaces/kube-system/configmaps/" + auth.ClusterSettings

func readToken(t *testing.T, s config.Server, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(s.DataDir, "server", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// A machine that has only the server's own token finds out whom to trust, and
// then what it has to know.
func TestMachineMeetsTheServer(t *testing.T) {
	s := settings(t, t.TempDir())
	start(t, s)
	token, err := pki.ParseToken(readToken(t, s, "token"))
	if err != nil {
		t.Fatal(err)
	}
	if readToken(t, s, "node-token") != token.Text()+"\n" {
		t.Error("node-token is another")
	}
	code, pem := newMachine(t, s, nil).get("/cacerts", "")
	if code != http.StatusOK || token.Verify([]byte(pem)) != nil {
		t.Fatalf("/cacerts answers %d, %s", code, pem)
	}
	authority, err := pki.ParseAuthority([]byte(pem))
	if err != nil {
		t.Fatal(err)
	}
	m := newMachine(t, s, pki.Pair{Certificate: authority}.Pool())
	code, body := m.get(clusterPath, token.Authorization())
	var settings corev1.ConfigMap
	if err := json.Unmarshal([]byte(body), &settings); code != http.StatusOK || err != nil {
		t.Fatalf("the settings: %d, %s, %v", code, body, err)
	}
	port := strconv.Itoa(s.HTTPSListenPort)
	for key, want := range map[string]string{
		"cluster-cidr": "10.42.0.0/16", "service-cidr": "10.43.0.0/16", "cluster-dns": "10.43.0.10", "cluster-domain": "cluster.local",
		"servers": "https://192.0.2.1:" + port + ",https://box.example.org:" + port + ",https://192.0.2.9:" + port,
	} {
		if settings.Data[key] != want {
			t.Errorf("%s is %q, want %q", key, settings.Data[key], want)
		}
	}
	for _, path := range []string{"/api/v1/nodes", "/api/v1/namespaces/kube-system/secrets", "/apis/certificates.k8s.io/v1/certificatesigningrequests"} {
		if code, body := m.get(path, token.Authorization()); code != http.StatusForbidden {
			t.Errorf("%s: %d, %s", path, code, body)
		}
	}
	for _, path := range []string{clusterPath, "/api/v1/nodes"} {
		if code, body := m.get(path, ""); code != http.StatusForbidden {
			t.Errorf("%s without a token: %d, %s", path, code, body)
		}
	}
}

// await returns when the Secret of tokens that have gone remembers one.
func (r *running) awaitGone(t *testing.T, id string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	w, err := r.client.CoreV1().Secrets(metav1.NamespaceSystem).Watch(ctx, metav1.ListOptions{
		FieldSelector: "metadata.name=" + auth.GoneTokens,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	for e := range w.ResultChan() {
		if e.Type != watch.Error && e.Object.(*corev1.Secret).Data[id] != nil {
			return
		}
	}
	t.Fatalf("nobody remembers token %s", id)
}

// A token that does not do is refused, and who has all of it is told why.
func TestRefusedTokens(t *testing.T) {
	s := settings(t, t.TempDir())
	r := start(t, s)
	host := config.NewHost(s.DataDir)
	newToken := func(wish TokenWish) pki.Token {
		t.Helper()
		made, err := CreateToken(t.Context(), host, wish)
		if err != nil {
			t.Fatal(err)
		}
		token, err := pki.ParseToken(made.Token)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	good, expiring, removed := newToken(TokenWish{TTL: time.Hour}), newToken(TokenWish{TTL: time.Second}), newToken(TokenWish{})
	if err := RemoveToken(t.Context(), host, removed.ID); err != nil {
		t.Fatal(err)
	}
	r.awaitGone(t, removed.ID)
	r.awaitGone(t, expiring.ID)
	wrong := func(token pki.Token) pki.Token {
		token.Secret = strings.Repeat("0", len(token.Secret))
		return token
	}
	const plain = "Unauthorized"
	m := newMachine(t, s, nil)
	for name, c := range map[string]struct {
		authorization string
		code          int
		told          string
	}{
		"good":                       {good.Authorization(), http.StatusOK, "skiff-cluster"},
		"wrong secret":               {wrong(good).Authorization(), http.StatusUnauthorized, plain},
		"unknown":                    {pki.NewBootstrapToken(nil).Authorization(), http.StatusUnauthorized, plain},
		"expired":                    {expiring.Authorization(), http.StatusUnauthorized, "bootstrap token " + expiring.ID + " expired on "},
		"expired, wrong secret":      {wrong(expiring).Authorization(), http.StatusUnauthorized, plain},
		"removed":                    {removed.Authorization(), http.StatusUnauthorized, "bootstrap token " + removed.ID + " was removed on "},
		"removed, wrong secret":      {wrong(removed).Authorization(), http.StatusUnauthorized, plain},
		"wrong password":             {pki.Token{Password: "password"}.Authorization(), http.StatusUnauthorized, plain},
		"whole token as a bearer":    {"Bearer " + good.Text(), http.StatusUnauthorized, plain},
		"service account's, made up": {"Bearer eyJhbGciOiJub25lIn0.eyJpc3MiOiJ4In0.", http.StatusUnauthorized, plain},
	} {
		code, told := m.get(clusterPath, c.authorization)
		if code != c.code || !strings.Contains(told, c.told) || c.told == plain && told != plain {
			t.Errorf("%s: %d, %s", name, code, told)
		}
	}
}

// Tokens are made, shown and removed through the server, and stay when it starts
// anew.
func TestTokenCommands(t *testing.T) {
	s := settings(t, t.TempDir())
	host := config.NewHost(s.DataDir)
	if _, err := ListTokens(t.Context(), host); err == nil || !strings.Contains(err.Error(), "no server runs on "+s.DataDir) {
		t.Errorf("without a server: %v", err)
	}
	r := start(t, s)
	before := time.Now()
	made, err := CreateToken(t.Context(), host, TokenWish{TTL: time.Hour, Once: true, Description: "the barn"})
	if err != nil {
		t.Fatal(err)
	}
	if made.Expires == nil || made.Expires.Before(before.Add(time.Hour-time.Second)) || made.Expires.After(time.Now().Add(time.Hour)) {
		t.Errorf("it expires on %v", made.Expires)
	}
	if want := "https://192.0.2.1:" + strconv.Itoa(s.HTTPSListenPort); made.Server != want {
		t.Errorf("the server is %s, want %s", made.Server, want)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	start(t, s)
	list, err := ListTokens(t.Context(), host)
	if err != nil || len(list) != 1 || list[0].ID != made.ID || !list[0].Once || list[0].Description != "the barn" ||
		!list[0].Expires.Equal(*made.Expires) || strings.Join(list[0].Usages, ",") != "authentication" {
		t.Errorf("list: %+v, %v", list, err)
	}
	if err := RemoveToken(t.Context(), host, made.ID); err != nil {
		t.Error(err)
	}
	if err := RemoveToken(t.Context(), host, made.ID); err == nil || !strings.Contains(err.Error(), `there is no bootstrap token "`+made.ID+`"`) {
		t.Errorf("removed twice: %v", err)
	}
	if list, err := ListTokens(t.Context(), host); err != nil || list == nil || len(list) != 0 {
		t.Errorf("list: %+v, %v", list, err)
	}
}

// The server's own token stays the same, takes the password that is set, and is
// part of a full snapshot.
func TestServersOwnToken(t *testing.T) {
	s := settings(t, t.TempDir())
	first := start(t, s)
	token := readToken(t, s, "token")
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	second := start(t, s)
	if again := readToken(t, s, "token"); again != token {
		t.Errorf("the token changed from %s to %s", token, again)
	}
	host := config.NewHost(s.DataDir)
	place := snapshot.NewDirectory(t.TempDir())
	file, err := place.Save(t.Context(), "full", snapshot.Source{
		Copy: func(ctx context.Context, w io.Writer) error { return Copy(ctx, host, w) }, Server: host.ServerDir(), Node: "box", Full: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := second.stop(); err != nil {
		t.Fatal(err)
	}
	archive, err := place.Open(t.Context(), file.Name)
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	elsewhere := settings(t, t.TempDir())
	if _, err := snapshot.Restore(t.Context(), config.NewHost(elsewhere.DataDir).ServerDir(), archive, ""); err != nil {
		t.Fatal(err)
	}
	elsewhere.Token = "the-new-password"
	start(t, elsewhere)
	fresh, err := pki.ParseToken(readToken(t, elsewhere, "token"))
	if err != nil || fresh.Password != "the-new-password" || !strings.HasPrefix(token, "K10"+fresh.Digest) {
		t.Errorf("the restored token %s became %s, %v", token, fresh.Text(), err)
	}
	m := newMachine(t, elsewhere, nil)
	if code, told := m.get(clusterPath, fresh.Authorization()); code != http.StatusOK {
		t.Errorf("the new password: %d, %s", code, told)
	}
	old, err := pki.ParseToken(token)
	if err != nil {
		t.Fatal(err)
	}
	if code, told := m.get(clusterPath, old.Authorization()); code != http.StatusUnauthorized {
		t.Errorf("the old password: %d, %s", code, told)
	}
}

// A token that cannot be the server's keeps it from starting, and is told.
func TestServerRefusesItsToken(t *testing.T) {
	s := settings(t, t.TempDir())
	s.Token = "abcdef.0123456789abcdef"
	if err := Run(t.Context(), s, zap.NewNop()); err == nil || !strings.Contains(err.Error(), "set a password") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(filepath.Join(s.DataDir, "server", "token")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file was written: %v", err)
	}
}
