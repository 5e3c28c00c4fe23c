package main

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"sort"
	"strings"
)

func sortStrings(s []string) { sort.Strings(s) }

// knowledge is what the answers of a scenario have told of each side, and which of
// their values stand for each other.
type knowledge struct {
	upstream, skiff known
	names           correspondence
}

// Difference is one way in which two answers differ. Shape is the same for all that
// have the same cause.
type Difference struct {
	Shape           string
	Upstream, Skiff string // what was there
}

// compare says how two answers to a request differ.
func compare(r Request, upstream, skiff Answer, k *knowledge) []Difference {
	if (upstream.Err == nil) != (skiff.Err == nil) {
		shape := "upstream broke the connection; skiff " + verdict(skiff, decode(skiff))
		if skiff.Err != nil {
			shape = "skiff broke the connection; upstream " + verdict(upstream, decode(upstream))
		}
		return []Difference{{shape, tell(upstream), tell(skiff)}}
	}
	var list []Difference
	k.names.generates(r.Body)
	u, s := decode(upstream), decode(skiff)
	setAside(r.Path, u, s)
	switch {
	case upstream.Code != skiff.Code:
		return []Difference{{fmt.Sprintf("upstream %s; skiff %s", verdict(upstream, u), verdict(skiff, s)), tell(upstream), tell(skiff)}}
	case r.Watch && upstream.Code == http.StatusOK:
		list = compareWatches(upstream, skiff, k)
	case u == nil || s == nil:
		if string(upstream.Body) != string(skiff.Body) && k.names.plain(string(upstream.Body)) != k.names.plain(string(skiff.Body)) {
			list = append(list, Difference{"text differs: " + template(shorten(string(upstream.Body), 100)), tell(upstream), tell(skiff)})
		}
	case isStatus(u) && isStatus(s) && text(u, "status") == "Failure":
		list = compareFailures(u, s, k)
	default:
		list = compareObjects(u, s, k)
	}
	return append(list, compareHeaders(upstream, skiff, k)...)
}

// setAside takes out of two documents what cannot be the same: what each server says
// of itself, and the API groups and resources that skiff does not serve yet.
func setAside(path string, u, s any) {
	if text(u, "kind") == "APIResourceList" {
		servedOnly(u, s, "resources")
	}
	switch strings.TrimSuffix(path, "/") {
	case "/version":
		for _, v := range []any{u, s} {
			document, _ := v.(map[string]any)
			for key := range document {
				document[key] = "its own" // that it is told counts
			}
		}
	case "/apis":
		servedOnly(u, s, "groups")
	}
}

// servedOnly leaves in upstream's list what skiff's has something of that name for.
func servedOnly(u, s any, list string) {
	served, _ := at(s, list).([]any)
	if all, ok := at(u, list).([]any); ok {
		u.(map[string]any)[list] = slices.DeleteFunc(all, func(e any) bool {
			return !slices.ContainsFunc(served, func(have any) bool { return text(have, "name") == text(e, "name") })
		})
	}
}

func isStatus(v any) bool { return text(v, "kind") == "Status" && text(v, "apiVersion") == "v1" }

// verdict is a short form of an answer, the same for all of its cause.
func verdict(a Answer, v any) string {
	if a.Err != nil {
		return "broke the connection: " + template(a.Err.Error())
	}
	if !isStatus(v) || text(v, "status") != "Failure" {
		return fmt.Sprint(a.Code)
	}
	if lines := causes(v); len(lines) > 0 {
		for i := range lines {
			lines[i] = template(lines[i])
		}
		lines = slices.Compact(lines)
		return fmt.Sprintf("%d %s", a.Code, shorten(strings.Join(lines, " | "), 400))
	}
	return fmt.Sprintf("%d %s %s", a.Code, text(v, "reason"), template(text(v, "message")))
}

func tell(a Answer) string {
	if a.Err != nil {
		return a.Err.Error()
	}
	return fmt.Sprintf("%d %s", a.Code, shorten(printable(a.Body), 3000))
}

// causes are a failure's, sorted.
func causes(v any) []string {
	list, _ := at(v, "details", "causes").([]any)
	var lines []string
	for _, c := range list {
		lines = append(lines, text(c, "field")+": "+text(c, "reason")+": "+text(c, "message"))
	}
	sort.Strings(lines)
	return lines
}

// unkeyed is what is said of a strategic merge patch with a list whose elements lack
// their key: of several such lists that which a map happens to give first, the next time
// another.
var unkeyed = regexp.MustCompile(`^map: .* does not contain declared merge key: \w+$`)

// compareFailures compares two Status objects. Upstream's order of causes is at
// times that of a map.
func compareFailures(u, s any, k *knowledge) []Difference {
	cu, cs := causes(u), causes(s)
	for i := range cu {
		cu[i] = k.names.plain(cu[i])
	}
	for i := range cs {
		cs[i] = k.names.plain(cs[i])
	}
	missing, extra := without(cu, cs), without(cs, cu)
	if slices.ContainsFunc(missing, func(cause string) bool { return strings.Contains(cause, ": IPAddress.networking.k8s.io ") }) {
		// Upstream stops there, so that all that skiff finds is one difference.
		return []Difference{{"upstream tells of an IPAddress that it cannot make", strings.Join(missing, "\n"), strings.Join(extra, "\n")}}
	}
	if len(missing)+len(extra) > 0 {
		return []Difference{{"causes: " + shorten(contrastLines(missing, extra), 500), strings.Join(missing, "\n"), strings.Join(extra, "\n")}}
	}
	mu, ms := k.names.plain(text(u, "message")), k.names.plain(text(s, "message"))
	var list []Difference
	if text(u, "reason") != text(s, "reason") {
		list = append(list, Difference{"reason", text(u, "reason") + ": " + mu, text(s, "reason") + ": " + ms})
	}
	ordered := len(cu) < 2 && !strings.Contains(mu, "errors:")
	if mu != ms && !(unkeyed.MatchString(mu) && unkeyed.MatchString(ms)) && (ordered || shuffledText(mu) != shuffledText(ms)) {
		shape := "message: " + contrast(template(mu), template(ms))
		if template(mu) == template(ms) {
			shape = "message: " + shorten(template(mu), 120) + " (another value)"
		}
		list = append(list, Difference{shape, mu, ms})
	}
	strip := func(v any) any {
		c, _ := cloneAny(v).(map[string]any)
		delete(c, "message")
		delete(c, "reason")
		if d, ok := c["details"].(map[string]any); ok {
			delete(d, "causes")
		}
		return c
	}
	return append(list, compareObjects(strip(u), strip(s), k)...)
}

// contrastLines shows which lines one side has and the other has not, those of one
// beginning side by side.
func contrastLines(missing, extra []string) string {
	minus, plus := compact(missing), compact(extra)
	var parts []string
	if slices.Equal(minus, plus) {
		for _, m := range minus {
			parts = append(parts, shorten(m, 120)+" (another value)")
		}
		return strings.Join(parts, " ")
	}
	for _, m := range minus {
		beginning := m[:max(0, strings.Index(m, ": "))]
		i := slices.IndexFunc(plus, func(e string) bool { return beginning != "" && strings.HasPrefix(e, beginning+": ") })
		if i < 0 || len(m) < 80 {
			parts = append(parts, "- "+m)
			continue
		}
		parts = append(parts, beginning+": "+contrast(m, plus[i]))
		plus = slices.Delete(plus, i, i+1)
	}
	for _, e := range plus {
		parts = append(parts, "+ "+e)
	}
	return strings.Join(parts, " ")
}

// contrast shows where two texts differ, with a few words around it: the same for
// all texts that differ in this.
func contrast(u, s string) string {
	wu, ws := strings.Fields(u), strings.Fields(s)
	begin := 0
	for begin < min(len(wu), len(ws)) && wu[begin] == ws[begin] {
		begin++
	}
	end := 0
	for end < min(len(wu), len(ws))-begin && wu[len(wu)-1-end] == ws[len(ws)-1-end] {
		end++
	}
	context := min(begin, 3)
	show := func(words []string) string {
		return shorten(strings.Join(words[begin-context:min(len(words), len(words)-end+1)], " "), 160)
	}
	return show(wu) + " / " + show(ws)
}

// shuffledText is the same for two messages with the same parts in another order.
func shuffledText(s string) string {
	runes := []rune(s)
	slices.Sort(runes)
	return string(runes)
}

func without(a, b []string) []string {
	rest := slices.Clone(b)
	var list []string
	for _, s := range a {
		if i := slices.Index(rest, s); i >= 0 {
			rest = slices.Delete(rest, i, i+1)
			continue
		}
		list = append(list, s)
	}
	return list
}

// compact gives templates, each once.
func compact(lines []string) []string {
	var list []string
	for _, l := range lines {
		if t := template(l); !slices.Contains(list, t) {
			list = append(list, t)
		}
	}
	return list
}

var (
	quoted  = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)
	index   = regexp.MustCompile(`\[[^\]\s]*\]`)
	digits  = regexp.MustCompile(`-?\d+`)
	encoded = regexp.MustCompile(`Invalid value: (\{.*\}|&?[\w.]+\{.*?\}|\[.*?\])`)
)

// template is a text without what changes from one request to the next.
func template(s string) string {
	s = strings.ReplaceAll(s, "\n", " ")
	s = encoded.ReplaceAllString(s, "Invalid value: {}")
	s = quoted.ReplaceAllString(s, `"…"`)
	s = index.ReplaceAllString(s, "[]")
	return digits.ReplaceAllString(s, "N")
}

// comparedHeaders are those that clients look at.
var comparedHeaders = []string{"Content-Type", "Cache-Control", "Retry-After", "Location", "Allow", "X-Content-Type-Options", "Vary"}

func compareHeaders(upstream, skiff Answer, k *knowledge) []Difference {
	var list []Difference
	for _, name := range comparedHeaders {
		u, s := strings.Join(upstream.Header.Values(name), ", "), strings.Join(skiff.Header.Values(name), ", ")
		if u != s {
			list = append(list, Difference{fmt.Sprintf("header %s: %q / %q", name, u, s), u, s})
		}
	}
	warnings := func(a Answer) []string {
		lines := slices.Clone(a.Header.Values("Warning"))
		for i := range lines {
			lines[i] = k.names.plain(lines[i])
		}
		sort.Strings(lines)
		return lines
	}
	wu, ws := warnings(upstream), warnings(skiff)
	missing, extra := without(wu, ws), without(ws, wu)
	if len(missing)+len(extra) > 0 {
		list = append(list, Difference{"warnings: " + shorten(contrastLines(missing, extra), 400), strings.Join(missing, "\n"), strings.Join(extra, "\n")})
	}
	return list
}
