package rest

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// maxTag bounds what is held of a page at once: a tag, or text between two. What
// follows a longer one is passed on as it is.
const maxTag = 1 << 20

// links are the attributes of HTML elements that hold a URL (HTML 4 and 5, index
// of attributes).
var links = map[atom.Atom][]string{
	atom.A:          {"href"},
	atom.Applet:     {"codebase"},
	atom.Area:       {"href"},
	atom.Audio:      {"src"},
	atom.Base:       {"href"},
	atom.Blockquote: {"cite"},
	atom.Body:       {"background"},
	atom.Button:     {"formaction"},
	atom.Del:        {"cite"},
	atom.Embed:      {"src"},
	atom.Form:       {"action"},
	atom.Frame:      {"longdesc", "src"},
	atom.Head:       {"profile"},
	atom.Html:       {"manifest"},
	atom.Iframe:     {"longdesc", "src"},
	atom.Img:        {"longdesc", "src", "usemap"},
	atom.Input:      {"src", "usemap", "formaction"},
	atom.Ins:        {"cite"},
	atom.Link:       {"href"},
	atom.Object:     {"classid", "codebase", "data", "usemap"},
	atom.Q:          {"cite"},
	atom.Script:     {"src"},
	atom.Source:     {"src"},
	atom.Video:      {"poster", "src"},
}

// publishPage makes the links of an HTML answer lead where clients find what is
// behind. An encoding that it does not know leaves the page as it is.
func (p published) publishPage(answer *http.Response, r *http.Request) error {
	media, _, _ := strings.Cut(answer.Header.Get("Content-Type"), ";")
	if strings.TrimSpace(media) != "text/html" || r.Method == http.MethodHead {
		return nil
	}
	var plain io.Reader = answer.Body
	switch answer.Header.Get("Content-Encoding") {
	case "":
	case "gzip":
		unzipped, err := gzip.NewReader(answer.Body)
		if err != nil {
			return err
		}
		plain = unzipped
	case "deflate":
		plain = flate.NewReader(answer.Body)
	default:
		return nil
	}
	answer.Header.Del("Content-Encoding")
	answer.Header.Del("Content-Length")
	answer.ContentLength = -1
	tokens := html.NewTokenizer(plain)
	tokens.SetMaxBuf(maxTag)
	answer.Body = &page{
		body: answer.Body, plain: plain, tokens: tokens,
		publish: func(u *url.URL) string { return p.publish(u, r).String() },
	}
	return nil
}

// page reads HTML with its links changed.
type page struct {
	body    io.Closer
	plain   io.Reader
	tokens  *html.Tokenizer
	publish func(*url.URL) string

	ready bytes.Buffer // what has been changed and not been read
	rest  io.Reader    // what is passed on as it is, once a tag was too long
	err   error        // of the tokens, once there are no more
}

// Read implements io.Reader.
func (p *page) Read(into []byte) (int, error) {
	for p.ready.Len() == 0 {
		if p.rest != nil {
			return p.rest.Read(into)
		}
		if p.err != nil {
			return 0, p.err
		}
		p.next()
	}
	return p.ready.Read(into)
}

// Close implements io.Closer.
func (p *page) Close() error { return p.body.Close() }

// next makes the next token ready.
func (p *page) next() {
	switch p.tokens.Next() {
	case html.ErrorToken:
		p.err = p.tokens.Err()
		p.ready.Write(p.tokens.Raw())
		if errors.Is(p.err, html.ErrBufferExceeded) {
			p.rest = io.MultiReader(bytes.NewReader(slices.Clone(p.tokens.Buffered())), p.plain)
		}
	case html.StartTagToken, html.SelfClosingTagToken:
		token := p.tokens.Token()
		for i, a := range token.Attr {
			if !slices.Contains(links[token.DataAtom], a.Key) {
				continue
			}
			if u, err := url.Parse(a.Val); err == nil {
				token.Attr[i].Val = p.publish(u)
			}
		}
		p.ready.WriteString(token.String())
	default:
		p.ready.Write(p.tokens.Raw())
	}
}
