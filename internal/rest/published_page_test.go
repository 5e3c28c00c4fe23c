package rest

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/iotest"
)

func gzipped(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestPublishPage(t *testing.T) {
	const below = "/proxy"
	r := &http.Request{Method: http.MethodGet, URL: &url.URL{Scheme: "http", Host: "10.42.0.5:80"}, Host: "server:6443"}
	long := `<a href="/x">` + strings.Repeat("y", maxTag+1) + `<a href="/x">`
	for _, c := range []struct{ name, media, encoding, page, want string }{
		{"a link", "text/html", "", `<a href="/x">test</a>`, `<a href="/proxy/x">test</a>`},
		{"with a charset", "text/html; charset=utf-8", "", `<a href="/x">`, `<a href="/proxy/x">`},
		{"several", "text/html", "", `<IMG SRC=/a longdesc="/b"><form action='http://10.42.0.5:80/c'/>`,
			`<img src="/proxy/a" longdesc="/proxy/b"><form action="/proxy/c"/>`},
		{"relative, elsewhere, bad", "text/html", "", `<a href="x"><a href="https://other/"><a href="%zz">`,
			`<a href="x"><a href="https://other/"><a href="%zz">`},
		{"no link", "text/html", "", `<p title="/x">/x<!-- <a href="/x"> --><script>"<a href='/x'>"</script>`,
			`<p title="/x">/x<!-- <a href="/x"> --><script>"<a href='/x'>"</script>`},
		{"another type", "text/plain", "", `<a href="/x">`, `<a href="/x">`},
		{"gzip", "text/html", "gzip", gzipped(t, `<a href="/x">`), `<a href="/proxy/x">`},
		{"an encoding of its own", "text/html", "br", `<a href="/x">`, `<a href="/x">`},
		{"cut short", "text/html", "", `<a href="/x"><a hre`, `<a href="/proxy/x"><a hre`},
		{"what is too long", "text/html", "", long, strings.Replace(long, "/x", "/proxy/x", 1)},
	} {
		answer := &http.Response{Header: http.Header{"Content-Type": {c.media}, "Content-Length": {"1"}},
			Body: io.NopCloser(iotest.HalfReader(strings.NewReader(c.page)))}
		if c.encoding != "" {
			answer.Header.Set("Content-Encoding", c.encoding)
		}
		if err := (published{below: below}).publishPage(answer, r); err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		got, err := io.ReadAll(answer.Body)
		if err != nil || string(got) != c.want {
			t.Errorf("%s: %.200q, %v, want %.200q", c.name, got, err, c.want)
		}
		if string(got) != c.page && answer.Header.Get("Content-Length")+answer.Header.Get("Content-Encoding") != "" {
			t.Errorf("%s: the header tells of another page: %v", c.name, answer.Header)
		}
	}
}
