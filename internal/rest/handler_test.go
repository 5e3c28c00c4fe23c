package rest

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/auth"
	"github.com/skiff-sh/skiff/internal/kind"
)

type authenticator func(*http.Request) (auth.User, bool, error)

func (f authenticator) Authenticate(r *http.Request) (auth.User, bool, error) { return f(r) }

type authorizer func(auth.Attributes) auth.Decision

func (f authorizer) Authorize(_ context.Context, a auth.Attributes) (auth.Decision, string, error) {
	return f(a), "", nil
}

func newTestHandler(c Config) *Handler {
	c.Kinds, c.Log = kind.All, zap.NewNop()
	if c.Authenticator == nil {
		c.Authenticator = authenticator(func(*http.Request) (auth.User, bool, error) { return auth.User{Name: "u"}, true, nil })
	}
	if c.Authorizer == nil {
		c.Authorizer = authorizer(func(auth.Attributes) auth.Decision { return auth.Allow })
	}
	return New(c)
}

func ask(h http.Handler, method, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
	return w
}

// A panic costs the one request that met it.
func TestPanicsAreRecovered(t *testing.T) {
	var told any
	h := newTestHandler(Config{
		Authenticator: authenticator(func(r *http.Request) (auth.User, bool, error) {
			if r.URL.Path == "/poison" {
				panic("poison")
			}
			return auth.User{}, false, nil
		}),
		Panicked: func(value any, _ []byte) { told = value },
	})
	w := ask(h, "GET", "/poison")
	var status metav1.Status
	if err := json.Unmarshal(w.Body.Bytes(), &status); err != nil {
		t.Fatal(err)
	}
	if w.Code != 500 || status.Reason != metav1.StatusReasonInternalError || !strings.Contains(status.Message, "panic") {
		t.Errorf("answer: %d %+v", w.Code, status)
	}
	if told != "poison" || h.Panics() != 1 {
		t.Errorf("told %v, counted %d", told, h.Panics())
	}
	if w := ask(h, "GET", "/healthz"); w.Code != 200 {
		t.Errorf("the next request: %d", w.Code)
	}
}

// An answer that has begun cannot be turned into an error: the connection ends.
func TestPanicInTheMiddleOfAnAnswer(t *testing.T) {
	h := newTestHandler(Config{JWKS: func() ([]byte, error) { return []byte("keys"), nil }})
	h.paths["/half"] = func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("half"))
		panic("poison")
	}
	defer func() {
		if value := recover(); value != http.ErrAbortHandler {
			t.Errorf("recovered %v", value)
		}
	}()
	ask(h, "GET", "/half")
	t.Error("the answer looks complete")
}

func TestHealth(t *testing.T) {
	broken := errors.New("no disk")
	var failing error
	h := newTestHandler(Config{Checks: []Check{
		{Name: "store", Live: true, Ask: func(context.Context) error { return nil }},
		{Name: "informers", Ask: func(context.Context) error { return failing }},
	}})
	for _, c := range []struct {
		path    string
		failing error
		code    int
		want    string
	}{
		{"/readyz", nil, 200, "ok"},
		{"/readyz?verbose", nil, 200, "[+]ping ok\n[+]store ok\n[+]informers ok\n[+]shutdown ok\nreadyz check passed\n"},
		{"/readyz", broken, 500, "[+]ping ok\n[+]store ok\n[-]informers failed: reason withheld\n[+]shutdown ok\nreadyz check failed\n"},
		{"/livez", broken, 200, "ok"},
		{"/livez?verbose", broken, 200, "[+]ping ok\n[+]store ok\nlivez check passed\n"},
		{"/readyz?exclude=informers", broken, 200, "ok"},
		{"/readyz?verbose&exclude=informers&exclude=x", broken, 200,
			"[+]ping ok\n[+]store ok\n[+]informers excluded: ok\n[+]shutdown ok\nwarn: some health checks cannot be excluded: no matches for \"x\"\nreadyz check passed\n"},
		{"/readyz/informers", broken, 500, "internal server error: no disk\n"},
		{"/readyz/store", nil, 200, "ok"},
		{"/readyz/nothing", nil, 404, "404 page not found\n"},
	} {
		failing = c.failing
		if w := ask(h, "GET", c.path); w.Code != c.code || w.Body.String() != c.want {
			t.Errorf("%s: %d %q, want %d %q", c.path, w.Code, w.Body.String(), c.code, c.want)
		}
	}
}

// Authorization is asked about what the request is really limited to.
func TestAttributes(t *testing.T) {
	var asked auth.Attributes
	h := newTestHandler(Config{Authorizer: authorizer(func(a auth.Attributes) auth.Decision {
		asked = a
		return auth.NoOpinion
	})})
	for target, want := range map[string]auth.Attributes{
		"GET /api/v1/pods?fieldSelector=metadata.name%3Da,spec.nodeName%3Dn&labelSelector=x": {
			Verb: "list", Version: "v1", Resource: "pods", Name: "a", FieldSelector: "metadata.name=a,spec.nodeName=n", LabelSelector: "x"},
		`GET /api/v1/secrets?fieldSelector=type%21%3Dx%5C,metadata.name%3Da`: { // one term, about the type
			Verb: "list", Version: "v1", Resource: "secrets", FieldSelector: `type!=x\,metadata.name=a`},
		"GET /api/v1/nodes?watch=true":                                {Verb: "watch", Version: "v1", Resource: "nodes"},
		"GET /api/v1/nodes?watch=0":                                   {Verb: "list", Version: "v1", Resource: "nodes"},
		"PUT /apis/apps/v1/namespaces/ns/deployments/d/scale":         {Verb: "update", Group: "apps", Version: "v1", Namespace: "ns", Resource: "deployments", Name: "d", Subresource: "scale"},
		"POST /apis/nothing.io/v9/namespaces/ns/things?fieldSelector": {Verb: "create", Group: "nothing.io", Version: "v9", Namespace: "ns", Resource: "things"},
		"GET /metrics": {Verb: "get", Path: "/metrics"},
	} {
		method, path, _ := strings.Cut(target, " ")
		want.User = auth.User{Name: "u"}
		if w := ask(h, method, path); w.Code != 403 {
			t.Errorf("%s: %d", target, w.Code)
		}
		if asked.User.Name != "u" {
			t.Errorf("%s: asked about %+v", target, asked.User)
		}
		asked.User = want.User
		if !equal(asked, want) {
			t.Errorf("%s:\nasked %+v\nwant  %+v", target, asked, want)
		}
	}
}

// Who may change objects may not make them by the way.
func TestCreationByChangeIsAuthorized(t *testing.T) {
	var asked auth.Attributes
	h := newTestHandler(Config{Authorizer: authorizer(func(a auth.Attributes) auth.Decision {
		asked = a
		return auth.NoOpinion
	})})
	q := &request{
		Request: httptest.NewRequest("PUT", "/", nil), verb: "update", res: h.groups[groupVersion{"", "v1"}].resources["services"],
		path: path{groupVersion: groupVersion{"", "v1"}, namespace: "ns", resource: "services", name: "s"},
	}
	err := h.changing(q, httptest.NewRecorder(), nil, "").MayCreate(t.Context())
	want := auth.Attributes{Verb: "create", Version: "v1", Namespace: "ns", Resource: "services", Name: "s"}
	if !apierrors.IsForbidden(err) || !equal(asked, want) {
		t.Errorf("answered %v, asked %+v", err, asked)
	}
}

// A right in one namespace must not lead to another one.
func TestNoNamespaceIsInAnother(t *testing.T) {
	h := newTestHandler(Config{})
	for _, path := range []string{"/api/v1/namespaces/a/namespaces/b", "/api/v1/namespaces/a/namespaces"} {
		if w := ask(h, "DELETE", path); w.Code != http.StatusNotFound {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}

func equal(a, b auth.Attributes) bool {
	a.User, b.User = auth.User{}, auth.User{}
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	return string(x) == string(y)
}

// Headers that say nothing ask for nobody; those that say whose groups or extras to
// have must say who.
func TestImpersonationNeedsAUser(t *testing.T) {
	h := newTestHandler(Config{})
	for _, c := range []struct {
		header, value string
		code          int
		message       string
	}{
		{"Impersonate-User", "", 200, ""},
		{"Impersonate-Foo", "x", 200, ""},
		{"Impersonate-User", "bob", 200, ""},
		{"Impersonate-Group", "g", 400, `user.DefaultInfo{Name:\"\", UID:\"\", Groups:[]string{\"g\"}, Extra:map[string][]string(nil)} without impersonating a user name`},
		{"Impersonate-Uid", "1", 400, "without impersonating a user name"},
		{"Impersonate-Extra-Foo", "x", 400, "without impersonating a user name"},
	} {
		r := httptest.NewRequest("GET", "/version", nil)
		r.Header.Set(c.header, c.value)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != c.code || !strings.Contains(w.Body.String(), c.message) {
			t.Errorf("%s: %q: %d %s, want %d %s", c.header, c.value, w.Code, w.Body, c.code, c.message)
		}
	}
}

// What a client got wrong is not in the log, whatever it is called; the server's own
// faults are.
func TestWhatIsLogged(t *testing.T) {
	h := newTestHandler(Config{})
	core, logs := observer.New(zap.ErrorLevel)
	h.Log = zap.New(core)
	odd := &apierrors.StatusError{ErrStatus: metav1.Status{Code: 500, Message: "not a number"}}
	for err, want := range map[error]int{odd: 0, apierrors.NewBadRequest("x"): 0, errors.New("bug"): 1, apierrors.NewInternalError(errors.New("disk")): 1} {
		h.fail(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil), err)
		if got := len(logs.TakeAll()); got != want {
			t.Errorf("%v: %d entries, want %d", err, got, want)
		}
	}
}

// Of documents that there are none of, nothing is said but that.
func TestNoSuchDocument(t *testing.T) {
	w := ask(newTestHandler(Config{}), "POST", "/openapi/v3/none")
	if w.Code != 404 || w.Body.Len() > 0 || w.Header().Get("Content-Type") != "" {
		t.Errorf("answer %d %v %s", w.Code, w.Header(), w.Body)
	}
}
