package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/rest"
)

// Request is what both servers are asked. Its texts may have what only an answer
// can tell, as ${revision:OBJECT}, ${uid:OBJECT}, ${name:OBJECT} or ${continue}; each
// side fills in its own.
type Request struct {
	Method  string
	Path    string
	Query   string // encoded, without the question mark
	Headers map[string]string
	Body    []byte
	Other   []byte // skiff's body, where it is not the same

	Verb   string // as coverage counts it: "create", "patch strategic", "list"
	Rule   string // what is odd about it: "spec.replicas negative"
	Object string // the object it is about, "" for none
	Watch  bool   // the answer is a stream that ends on its own
}

// Answer is what one server said.
type Answer struct {
	Code   int
	Header http.Header
	Body   []byte
	Err    error // of the connection
}

// side is one of the two servers.
type side struct {
	name string
	base *url.URL
	web  *http.Client
}

func newSide(name string, config *rest.Config) (*side, error) {
	base, err := url.Parse(config.Host)
	if err != nil {
		return nil, err
	}
	config = rest.CopyConfig(config)
	config.Timeout = time.Minute
	web, err := rest.HTTPClientFor(config)
	return &side{name: name, base: base, web: web}, err
}

// do asks a server.
func (s *side) do(ctx context.Context, r Request, known *known) Answer {
	target := s.base.String() + known.fill(r.Path)
	if r.Query != "" {
		target += "?" + known.fill(r.Query)
	}
	var body io.Reader
	if r.Body != nil {
		body = bytes.NewReader([]byte(known.fill(string(r.Body))))
	}
	request, err := http.NewRequestWithContext(ctx, r.Method, target, body)
	if err != nil {
		return Answer{Err: err}
	}
	for k, v := range r.Headers {
		request.Header.Set(k, v)
	}
	request.Header.Set("User-Agent", "twin/1.0")
	response, err := s.web.Do(request)
	if err != nil {
		return Answer{Err: err}
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	return Answer{Code: response.StatusCode, Header: response.Header, Body: data, Err: err}
}

// pair is both servers.
type pair struct{ upstream, skiff *side }

// do asks both at the same time.
func (p pair) do(ctx context.Context, r Request, k *knowledge) (upstream, skiff Answer) {
	var both sync.WaitGroup
	asked := r
	both.Go(func() { upstream = p.upstream.do(ctx, asked, &k.upstream) })
	both.Go(func() {
		if r.Other != nil {
			r.Body = r.Other
		}
		skiff = p.skiff.do(ctx, r, &k.skiff)
	})
	both.Wait()
	return upstream, skiff
}

// known is what one server's answers have told: what requests refer to.
type known struct {
	texts map[string]string // "revision:a" → "123"
}

func (k *known) set(key, value string) {
	if k.texts == nil {
		k.texts = map[string]string{}
	}
	k.texts[key] = value
}

// fill puts what is known into a text.
func (k *known) fill(text string) string {
	if k == nil || !strings.Contains(text, "${") {
		return text
	}
	for key, value := range k.texts {
		text = strings.ReplaceAll(text, "${"+key+"}", value)
	}
	return text
}

// curl shows a request as a person would repeat it.
func (r Request) curl() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", r.Method, r.Path)
	if r.Query != "" {
		b.WriteString("?" + r.Query)
	}
	for _, k := range sortedKeys(r.Headers) {
		fmt.Fprintf(&b, "\n%s: %s", k, r.Headers[k])
	}
	if r.Body != nil {
		fmt.Fprintf(&b, "\n\n%s", shorten(printable(r.Body), 6000))
	}
	return b.String()
}

func printable(data []byte) string {
	if bytes.HasPrefix(data, []byte("k8s\x00")) {
		return fmt.Sprintf("(%d bytes of protobuf)", len(data))
	}
	return string(data)
}

func shorten(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n] + fmt.Sprintf("… (%d bytes)", len(s))
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range maps.Keys(m) {
		keys = append(keys, k)
	}
	sortStrings(keys)
	return keys
}
