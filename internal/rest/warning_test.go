package rest

import (
	"net/http/httptest"
	"strings"
	"testing"
)

// Warnings stay below upstream's bound: when they would be more, all are cut short.
func TestWarningsAreBounded(t *testing.T) {
	plain := httptest.NewRecorder()
	w := &statusWriter{ResponseWriter: plain}
	for _, text := range []string{`a "b"`, `a "b"`, "", "a\x00b"} {
		addWarning(w, text)
	}
	if got := plain.Header()["Warning"]; len(got) != 1 || got[0] != `299 - "a \"b\""` {
		t.Errorf("warnings %q", got)
	}
	long := strings.Repeat("ü", 1000)
	for i := range 30 {
		addWarning(w, string(rune('a'+i))+long)
	}
	// Each of the long ones is 256 characters; with the first one, they fill the bound
	// when 16 of them are there.
	got := plain.Header()["Warning"]
	if len(got) != 17 || got[1] != `299 - "a`+long[:2*255]+`"` {
		t.Errorf("%d warnings, %q", len(got), got[1])
	}
}
