package api

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

func newRequest(t *testing.T, method, url, body string) (*http.Request, error) {
	return http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
}

func copyAll(w io.Writer, r io.Reader) (int64, error) { return io.Copy(w, r) }

// Answers to what is wrong with a request are matched on by clients: code,
// reason and text are upstream's.
func TestRefusals(t *testing.T) {
	p := start(t, nil)
	big := strings.Repeat("x", 3<<20)
	for _, c := range []struct {
		name, method, path, body string
		header                   map[string]string
		code                     int
		reason, message          string
	}{
		{"unknown resource", "GET", "/api/v1/foos", "", nil, 404, "NotFound", "the server could not find the requested resource"},
		{"unknown object", "GET", "/api/v1/namespaces/default/pods/p", "", nil, 404, "NotFound", `pods "p" not found`},
		{"method", "PUT", "/api/v1/namespaces/default/pods", "{}", nil, 405, "MethodNotAllowed", "the server does not allow this method on the requested resource"},
		{"accept", "GET", "/api/v1/pods", "", map[string]string{"Accept": "text/html"}, 406, "NotAcceptable",
			"406: Not Acceptable\n\nAvailable representations: application/json"},
		{"content type", "POST", "/api/v1/namespaces/default/configmaps", "x", map[string]string{"Content-Type": "text/plain"}, 415, "UnsupportedMediaType",
			"the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf"},
		{"patch type", "PATCH", "/api/v1/namespaces/default/configmaps/a", "{}", map[string]string{"Content-Type": "application/json"}, 415, "UnsupportedMediaType",
			"415: Unsupported Media Type"},
		{"too large", "POST", "/api/v1/namespaces/default/configmaps", `{"data":{"a":"` + big + `"}}`, nil, 413, "RequestEntityTooLarge", "Request entity too large: limit is 3145728"},
		{"unknown field", "POST", "/api/v1/namespaces/default/configmaps?fieldValidation=Strict", `{"metadata":{"name":"a"},"dat":{}}`, nil, 400, "BadRequest",
			`ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: unknown field "dat"`},
		{"duplicate field", "POST", "/api/v1/namespaces/default/configmaps?fieldValidation=Strict", `{"metadata":{"name":"a"},"data":{},"data":{}}`, nil, 400, "BadRequest",
			`ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: duplicate field "data"`},
		{"wrong version", "POST", "/api/v1/namespaces/default/configmaps", `{"kind":"Deployment","apiVersion":"apps/v1"}`, nil, 400, "BadRequest",
			"Deployment in version \"v1\" cannot be handled as a ConfigMap: converting (v1.Deployment) to (core.ConfigMap): unknown conversion"},
		{"unknown kind", "POST", "/api/v1/namespaces/default/configmaps", `{"kind":"Foo","apiVersion":"v1"}`, nil, 400, "BadRequest", `Foo in version "v1" cannot be handled as a ConfigMap: no kind "Foo" is registered for version "v1"`},
		{"wrong type", "POST", "/api/v1/namespaces/default/configmaps", `{"data":3}`, nil, 400, "BadRequest",
			`ConfigMap in version "v1" cannot be handled as a ConfigMap: json: cannot unmarshal number into Go struct field ConfigMap.data of type map[string]string`},
		{"dry run", "POST", "/api/v1/namespaces/default/configmaps?dryRun=Some", `{}`, nil, 422, "Invalid",
			`CreateOptions.meta.k8s.io "" is invalid: dryRun: Unsupported value: ["Some"]: supported values: "All"`},
		{"field validation", "POST", "/api/v1/namespaces/default/configmaps?fieldValidation=Maybe", `{}`, nil, 422, "Invalid",
			`CreateOptions.meta.k8s.io "" is invalid: fieldValidation: Unsupported value: "Maybe": supported values: "", "Ignore", "Strict", "Warn"`},
		{"force", "PATCH", "/api/v1/namespaces/default/configmaps/a?force=true", `{}`, map[string]string{"Content-Type": "application/merge-patch+json"}, 422, "Invalid",
			`PatchOptions.meta.k8s.io "" is invalid: force: Forbidden: may not be specified for non-apply patch`},
		{"collection of namespaces", "DELETE", "/api/v1/namespaces", "", nil, 405, "MethodNotAllowed", "the server does not allow this method on the requested resource"},
		{"no such subresource", "GET", "/api/v1/namespaces/default/configmaps/a/status", "", nil, 404, "NotFound", "the server could not find the requested resource"},
		{"cluster scope", "GET", "/api/v1/namespaces/default/nodes", "", nil, 404, "NotFound", "the server could not find the requested resource"},
		{"no namespace", "POST", "/api/v1/pods", "{}", nil, 405, "MethodNotAllowed", "the server does not allow this method on the requested resource"},
		{"object without its namespace", "GET", "/api/v1/pods/p", "", nil, 404, "NotFound", "the server could not find the requested resource"},
		{"watch options", "GET", "/api/v1/pods?watch=1&sendInitialEvents=true", "", nil, 422, "Invalid",
			`ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan`},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, body, _ := call(t, p.admin(), c.method, c.path, c.body, c.header)
			s := decodeStatus(t, body)
			if code != c.code || int(s.Code) != c.code || string(s.Reason) != c.reason || !strings.HasPrefix(s.Message, c.message) {
				t.Errorf("%d %s: %s\nwant %d %s: %s", code, s.Reason, s.Message, c.code, c.reason, c.message)
			}
			if s.Kind != "Status" || s.APIVersion != "v1" || s.Status != "Failure" {
				t.Errorf("not a failure Status: %s", body)
			}
		})
	}
}

func TestWarningsOfUnknownFields(t *testing.T) {
	p := start(t, nil)
	path := "/api/v1/namespaces/default/configmaps"
	code, body, header := call(t, p.admin(), "POST", path, `{"metadata":{"name":"a"},"dat":{}}`, nil)
	if code != 201 || len(header["Warning"]) != 1 || header["Warning"][0] != `299 - "unknown field \"dat\""` {
		t.Errorf("by default: %d %q %s", code, header["Warning"], body)
	}
	code, _, header = call(t, p.admin(), "POST", path+"?fieldValidation=Ignore", `{"metadata":{"name":"b"},"dat":{}}`, nil)
	if code != 201 || len(header["Warning"]) != 0 {
		t.Errorf("ignoring: %d %q", code, header["Warning"])
	}
	code, body, _ = call(t, p.admin(), "POST", path, "metadata:\n  name: c\ndata:\n  a: b\n", map[string]string{"Content-Type": "application/yaml", "Accept": "application/yaml"})
	if code != 201 || !strings.Contains(body, "kind: ConfigMap\n") {
		t.Errorf("YAML: %d %s", code, body)
	}
}

// Whoever still reads Endpoints is told what replaces them, once per answer.
func TestDeprecation(t *testing.T) {
	p := start(t, nil)
	want := `299 - "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"`
	for method, path := range map[string]string{"GET": "/api/v1/endpoints", "POST": "/api/v1/namespaces/default/endpoints"} {
		_, _, header := call(t, p.admin(), method, path, `{"metadata":{"name":"a"}}`, nil)
		if len(header["Warning"]) != 1 || header["Warning"][0] != want {
			t.Errorf("%s: %q", method, header["Warning"])
		}
	}
	if _, _, header := call(t, p.admin(), "GET", "/api/v1/pods", "", nil); len(header["Warning"]) != 0 {
		t.Errorf("pods: %q", header["Warning"])
	}
}

func TestCompression(t *testing.T) {
	p := start(t, nil)
	path := "/api/v1/namespaces/default/configmaps"
	call(t, p.admin(), "POST", path, `{"metadata":{"name":"big"},"data":{"a":"`+strings.Repeat("x", 200<<10)+`"}}`, nil)
	client := must(httpClient(p))(t)
	request := must(newRequest(t, "GET", "https://"+p.address+path+"/big", ""))(t)
	request.Header.Set("Accept-Encoding", "gzip") // by hand: the transport then leaves it to us
	answer := must(client.Do(request))(t)
	defer func() { _ = answer.Body.Close() }()
	n := must(copyAll(io.Discard, answer.Body))(t)
	if answer.Header.Get("Content-Encoding") != "gzip" || n > 20<<10 {
		t.Errorf("%d bytes, encoding %q", n, answer.Header.Get("Content-Encoding"))
	}
	code, body, _ := call(t, p.admin(), "GET", path+"/big", "", nil)
	if code != 200 || len(body) < 200<<10 {
		t.Errorf("through the transport: %d, %d bytes", code, len(body))
	}
}
