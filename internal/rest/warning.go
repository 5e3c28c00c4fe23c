package rest

import (
	"net/http"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/skiff-sh/skiff/internal/api"
)

// Upstream's bounds, in characters: of all warnings of an answer, and of each from
// where they would be more than that.
const (
	maxWarnings    = 4 << 10
	maxLongWarning = 256
)

// warnings are those of one answer, each text once.
type warnings struct {
	texts   []string
	written int
	cut     bool // each is cut short
}

// addWarnings adds Warning headers about what a decoder found.
func addWarnings[T error](w http.ResponseWriter, errs []T) {
	for _, err := range errs {
		for _, text := range api.YAMLWarnings(err.Error()) {
			addWarning(w, text)
		}
	}
}

// addWarning adds one Warning header: code 299, no agent, and the text as a
// quoted string (RFC 7234).
func addWarning(w http.ResponseWriter, text string) {
	if s, ok := w.(*statusWriter); ok {
		s.warnings.add(w.Header(), text)
		return
	}
	new(warnings).add(w.Header(), text)
}

func (a *warnings) add(header http.Header, text string) {
	if text == "" || a.cut && a.written >= maxWarnings || slices.Contains(a.texts, text) {
		return
	}
	a.texts = append(a.texts, text)
	if a.cut || a.written+utf8.RuneCountInString(text) <= maxWarnings {
		a.write(header, text)
		return
	}
	a.cut, a.written = true, 0
	header.Del("Warning")
	for _, text := range a.texts {
		a.write(header, text)
	}
}

// write passes over what no header can say, as upstream does.
func (a *warnings) write(header http.Header, text string) {
	if runes := []rune(text); a.cut && len(runes) > maxLongWarning {
		text = string(runes[:maxLongWarning])
	}
	if !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
		return
	}
	a.written += utf8.RuneCountInString(text)
	header.Add("Warning", `299 - "`+strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text)+`"`)
}
