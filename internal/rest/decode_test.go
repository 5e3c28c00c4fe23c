package rest

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/skiff-sh/skiff/internal/kind"
)

// Fields are complained of where the body is of the kind that is asked for, in whatever
// version; a kind in two groups has them as versions.
func TestDecodeOtherKinds(t *testing.T) {
	decoder := newDecoders(kind.Scheme()).json
	event := &kind.Event.Faces[0]
	for _, c := range []struct{ body, validation, want, warning string }{
		{`{"kind":"Event","apiVersion":"events.k8s.io/v1","nothing":1}`, "Warn", "", `299 - "unknown field \"nothing\""`},
		{`{"kind":"Event","apiVersion":"v1","note":"x"}`, "Warn", "the API version in the data (v1) does not match the expected API version (events.k8s.io/v1)", `299 - "unknown field \"note\""`},
		{`{"kind":"Event","apiVersion":"v1"}`, "", "the API version in the data (v1) does not match the expected API version (events.k8s.io/v1)", ""},
		{`{"kind":"ConfigMap","apiVersion":"v1","note":"x"}`, "Warn", "converting (v1.ConfigMap) to (core.Event): unknown conversion", ""},
		{`{"kind":"ConfigMap","apiVersion":"v1","note":"x"}`, "Strict", "converting (v1.ConfigMap) to (core.Event): unknown conversion", ""},
		{`{"kind":"Event","apiVersion":"events.k8s.io/v1","nothing":1}`, "Strict", `strict decoding error: unknown field "nothing"`, ""},
		{`{"kind":"Event","apiVersion":"events.k8s.io/v1","nothing":1}`, "Ignore", "", ""},
	} {
		w := httptest.NewRecorder()
		got := ""
		if err := decodeInto(w, decoder, []byte(c.body), event.New(), event.Resource.GroupVersion().WithKind("Event"), c.validation); err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, c.want) || (got == "") != (c.want == "") || w.Header().Get("Warning") != c.warning {
			t.Errorf("%s, %s: %q, warning %s", c.body, c.validation, got, w.Header().Get("Warning"))
		}
	}
}
