package rest

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilnet "k8s.io/apimachinery/pkg/util/net"

	"github.com/skiff-sh/skiff/internal/kind"
)

func TestParseAccept(t *testing.T) {
	for _, c := range []struct {
		accept        string
		views, stream bool
		want          form
		ok            bool
	}{
		{"application/json, */*", true, false, form{}, true},
		{"*/*", true, false, form{}, true},
		{"application/yaml", true, false, form{media: mediaYAML}, true},
		{"application/yaml", true, true, form{}, false},
		{"application/vnd.kubernetes.protobuf,application/json", true, false, form{media: mediaProtobuf}, true},
		{"application/vnd.kubernetes.protobuf;stream=watch", true, true, form{media: mediaProtobuf}, true},
		{"application/json;q=0.5,application/yaml;q=0.9", true, false, form{media: mediaYAML}, true},
		{"application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json", true, false, form{view: viewTable}, true},
		{"application/json;as=Table;v=v1;g=meta.k8s.io,application/json", false, false, form{}, true},
		{"application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", true, false, form{media: mediaProtobuf, view: viewPartialList}, true},
		{"application/json;as=Table;v=v2;g=meta.k8s.io", true, false, form{}, false},
		{"text/html", true, false, form{}, false},
		{"application/cbor,application/json;pretty=1", true, false, form{pretty: true}, true},
	} {
		got, ok := parseAccept(c.accept, c.views, c.stream)
		if ok != c.ok || ok && got != c.want {
			t.Errorf("parseAccept(%q, %v, %v) = %+v, %v; want %+v, %v", c.accept, c.views, c.stream, got, ok, c.want, c.ok)
		}
	}
}

// A header costs memory for good only while it is one that a client would send.
func TestLongAcceptsAreNotKept(t *testing.T) {
	h := newTestHandler(Config{})
	long := "application/json;x=" + strings.Repeat("x", 100<<10)
	for accept, kept := range map[string]bool{"application/json": true, long: false} {
		r := httptest.NewRequest("GET", "/api/v1/pods", nil)
		r.Header.Set("Accept", accept)
		if _, err := h.negotiate(r, true, false); err != nil {
			t.Fatal(err)
		}
		if _, found := h.accepts.known.Load(accept); found != kept {
			t.Errorf("header of %d bytes: kept %v, want %v", len(accept), found, kept)
		}
	}
}

// Clients read warnings with apimachinery's parser.
func TestWarnings(t *testing.T) {
	w := &statusWriter{ResponseWriter: recorder{header: http.Header{}}}
	texts := []string{`unknown field "spec.a\b"`, "and a, comma", `unknown field "spec.a\b"`}
	for _, text := range texts {
		addWarning(w, text)
	}
	parsed, errs := utilnet.ParseWarningHeaders(w.Header()["Warning"])
	if len(errs) > 0 || len(parsed) != 2 {
		t.Fatalf("parsed %v, errors %v", parsed, errs)
	}
	if parsed[0].Code != 299 || parsed[0].Text != texts[0] || parsed[1].Text != texts[1] {
		t.Errorf("got %+v", parsed)
	}
}

type recorder struct {
	http.ResponseWriter
	header http.Header
}

func (r recorder) Header() http.Header { return r.header }

// Upstream's list of metadata has null for no items, and no other list does.
func TestEmptyLists(t *testing.T) {
	h := newTestHandler(Config{})
	res := h.groups[groupVersion{version: "v1"}].resources["configmaps"]
	for want, f := range map[string]form{`"items":null`: {view: viewPartialList}, `"items":[]`: {}, `"rows":[]`: {view: viewTable}} {
		var b bytes.Buffer
		if err := h.appendListView(&b, res, metav1.ListMeta{}, []kind.Object{}, f, metav1.IncludeMetadata); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %s in %s", want, &b)
		}
	}
}

// Events have one Go type of upstream's own, in whatever group they are asked for.
func TestListsThatAreNoObject(t *testing.T) {
	h := newTestHandler(Config{})
	for gv, want := range map[groupVersion]string{{version: "v1"}: "(*core.EventList)", {"events.k8s.io", "v1"}: "(*core.EventList)"} {
		err := h.appendListView(nil, h.groups[gv].resources["events"], metav1.ListMeta{}, nil, form{view: viewPartial}, metav1.IncludeMetadata)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", gv.group, err)
		}
	}
}
