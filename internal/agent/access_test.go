package agent

import (
	"crypto/tls"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	authnv1 "k8s.io/api/authentication/v1"
	authzv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	ktesting "k8s.io/client-go/testing"
)

// reviewer answers reviews as an API server that knows one token.
type reviewer struct {
	mu     sync.Mutex
	asked  []string
	broken bool
}

func (v *reviewer) client() *fake.Clientset {
	client := fake.NewClientset()
	client.PrependReactor("create", "tokenreviews", func(action ktesting.Action) (bool, runtime.Object, error) {
		r := action.(ktesting.CreateAction).GetObject().(*authnv1.TokenReview)
		if r.Spec.Token == "good" {
			r.Status = authnv1.TokenReviewStatus{Authenticated: true, User: authnv1.UserInfo{Username: "prometheus", Groups: []string{"scrapers"}}}
		}
		return true, r, v.note("token " + r.Spec.Token)
	})
	client.PrependReactor("create", "subjectaccessreviews", func(action ktesting.Action) (bool, runtime.Object, error) {
		r := action.(ktesting.CreateAction).GetObject().(*authzv1.SubjectAccessReview)
		of := r.Spec.ResourceAttributes
		r.Status.Allowed = slices.Contains(r.Spec.Groups, "scrapers") && (of.Subresource == "metrics" || of.Subresource == "proxy" && of.Verb == "create")
		return true, r, v.note(fmt.Sprintf("%s %s %s/%s %s", r.Spec.User, of.Verb, of.Resource, of.Subresource, of.Name))
	})
	return client
}

func (v *reviewer) note(text string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.broken {
		return errors.New("the API server is away")
	}
	v.asked = append(v.asked, text)
	return nil
}

func ask(t *testing.T, server *httptest.Server, cert *tls.Certificate, method, path, token string) (int, string) {
	t.Helper()
	config := server.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	if cert != nil {
		config.Certificates = []tls.Certificate{*cert}
	}
	r, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := (&http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(body)
}

// Many may ask at once, of what is known and of what is not.
func TestAccessOfMany(t *testing.T) {
	v := &reviewer{}
	server, _ := nodeAPI(t, func(a *Agent) { a.Client = v.client() })
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			token, want := "good", http.StatusOK
			if i%2 == 1 {
				token, want = fmt.Sprintf("bad %d", i), http.StatusUnauthorized
			}
			if status, _ := ask(t, server, nil, "GET", "/metrics", token); status != want {
				t.Errorf("with %q: %d, want %d", token, status, want)
			}
		})
	}
	all.Wait()
}

// Who is neither the API server nor an administrator is asked for there, and the
// answer is kept.
func TestAccessByReview(t *testing.T) {
	v := &reviewer{}
	server, ca := nodeAPI(t, func(a *Agent) { a.Client = v.client() })
	user := ca.client(t, pkix.Name{CommonName: "someone", Organization: []string{"scrapers"}})
	api := ca.client(t, pkix.Name{CommonName: apiServerClient})
	for _, c := range []struct {
		name, method, path, token string
		cert                      *tls.Certificate
		status                    int
		body                      string
		asked                     []string
	}{
		{"a good token", "GET", "/metrics", "good", nil, 200, "", []string{"token good", "prometheus get nodes/metrics n1"}},
		{"again", "GET", "/metrics/resource", "good", nil, 200, "", nil},
		{"where it may not", "GET", "/containerLogs/default/web/c", "good", nil, 403,
			"Forbidden (user=prometheus, verb=get, resource=nodes, subresource(s)=[proxy])\n", []string{"prometheus get nodes/proxy n1"}},
		{"one of two", "GET", "/pods", "good", nil, 403,
			"Forbidden (user=prometheus, verb=get, resource=nodes, subresource(s)=[pods proxy])\n", []string{"prometheus get nodes/pods n1"}},
		{"a bad token", "GET", "/metrics", "bad", nil, 401, "Unauthorized\n", []string{"token bad"}},
		{"a bad token again", "GET", "/metrics", "bad", nil, 401, "Unauthorized\n", nil},
		{"no token", "GET", "/metrics", "", nil, 401, "Unauthorized\n", nil},
		{"a certificate", "GET", "/metrics", "", &user, 200, "", []string{"someone get nodes/metrics n1"}},
		{"another verb", "HEAD", "/healthz", "", &user, 403, "", []string{"someone  nodes/healthz n1", "someone  nodes/proxy n1"}},
		{"the API server", "GET", "/pods", "", &api, 200, "", nil},
	} {
		v.asked = nil
		status, body := ask(t, server, c.cert, c.method, c.path, c.token)
		if status != c.status || c.body != "" && body != c.body {
			t.Errorf("%s: %d %q", c.name, status, body)
		}
		if !slices.Equal(v.asked, c.asked) {
			t.Errorf("%s: asked %q, want %q", c.name, v.asked, c.asked)
		}
	}
	v.broken = true
	if status, _ := ask(t, server, nil, "GET", "/metrics", "good"); status != 200 {
		t.Errorf("what is known needs no API server: %d", status)
	}
	if status, body := ask(t, server, nil, "GET", "/metrics", "other"); status != 401 || body != "Unauthorized\n" {
		t.Errorf("who is not known while the API server is away: %d %q", status, body)
	}
	if status, body := ask(t, server, &user, "GET", "/stats/summary", ""); status != 500 || !strings.HasPrefix(body, "Authorization error (user=someone, verb=get") {
		t.Errorf("what is not known while the API server is away: %d %q", status, body)
	}
}
