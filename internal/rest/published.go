package rest

import (
	"fmt"
	"net/http"
	"net/url"
	urlpath "path"
	"strings"

	"k8s.io/apimachinery/pkg/api/errors"
)

// published is a transport to what appears to clients below a path of this server:
// it tells what is behind where that is, and makes redirects and links in pages lead
// there again, as upstream does.
type published struct {
	http.RoundTripper
	below string
}

// RoundTrip implements http.RoundTripper.
func (p published) RoundTrip(r *http.Request) (*http.Response, error) {
	uri := urlpath.Join(p.below, r.URL.EscapedPath())
	if strings.HasSuffix(r.URL.Path, "/") {
		uri += "/"
	}
	r.Header.Set("X-Forwarded-Uri", uri)
	answer, err := p.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, errors.NewServiceUnavailable(fmt.Sprintf("error trying to reach service: %v", err))
	}
	// Who may read the answers in a browser is for the server to say.
	for _, name := range []string{"Credentials", "Headers", "Methods", "Origin"} {
		answer.Header.Del("Access-Control-Allow-" + name)
	}
	if text := answer.Header.Get("Location"); text != "" {
		location, err := url.Parse(text)
		if err != nil {
			_ = answer.Body.Close()
			return nil, errors.NewInternalError(fmt.Errorf("error trying to parse Location header: %w", err))
		}
		answer.Header.Set("Location", p.publish(location, r).String())
		return answer, nil
	}
	if err := p.publishPage(answer, r); err != nil {
		_ = answer.Body.Close()
		return nil, err
	}
	return answer, nil
}

// publish returns where clients find what is behind under a URL. What is another
// host's, or relative to the page it stands on, stays as it is.
func (p published) publish(u *url.URL, r *http.Request) *url.URL {
	ours := u.Host == "" || u.Host == r.URL.Host || u.Host == r.Host
	if !ours || !strings.HasPrefix(u.Path, "/") {
		return u
	}
	out := *u
	if u.Host != r.Host {
		out.Scheme, out.Host = "", ""
	}
	if !strings.HasPrefix(u.Path, p.below) {
		out.Path, out.RawPath = urlpath.Join(p.below, u.Path), ""
		if strings.HasSuffix(u.Path, "/") {
			out.Path += "/"
		}
	}
	return &out
}
