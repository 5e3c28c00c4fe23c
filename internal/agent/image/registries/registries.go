// Package registries reads registries.yaml, the file that says where a node gets
// its images instead of where their names say, and how it is known there. The
// format is k3s's:
//
//	mirrors:
//	  docker.io:                 # a registry as images name it, or "*" for all others
//	    endpoint: ["https://mirror.example.org:5000"]
//	    rewrite: {"^library/(.*)": "hub/$1"}
//	configs:
//	  mirror.example.org:5000:   # a host as it is reached, or "*" for all others
//	    auth: {username: me, password: secret}
//	    tls: {ca_file: /etc/ssl/mirror.pem, cert_file: …, key_file: …, insecure_skip_verify: false}
//
// Read reads it, Config.Endpoints says where to ask for a registry's images, in
// turn. The package opens no connections.
package registries

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// Config is the file's content.
type Config struct {
	Mirrors map[string]Mirror `json:"mirrors,omitempty"`
	Configs map[string]Host   `json:"configs,omitempty"`
}

// Mirror is where to get what is a registry's.
type Mirror struct {
	Endpoints []string          `json:"endpoint,omitempty"`
	Rewrites  map[string]string `json:"rewrite,omitempty"` // of repositories: regular expression to replacement
}

// Host is how a host is spoken to.
type Host struct {
	Auth *Auth `json:"auth,omitempty"`
	TLS  *TLS  `json:"tls,omitempty"`
}

// Auth is what to log in with.
type Auth struct {
	Username      string `json:"username,omitempty"`
	Password      string `json:"password,omitempty"`
	Auth          string `json:"auth,omitempty"` // base64 of username:password
	IdentityToken string `json:"identity_token,omitempty"`
}

// TLS is whom to trust, and what to show.
type TLS struct {
	CAFile             string `json:"ca_file,omitempty"`
	CertFile           string `json:"cert_file,omitempty"`
	KeyFile            string `json:"key_file,omitempty"`
	InsecureSkipVerify bool   `json:"insecure_skip_verify,omitempty"`
}

// Endpoint is one place to ask for a registry's images.
type Endpoint struct {
	Scheme, Host, Path string // such as https, mirror.example.org:5000, /v2
	Config             Host
	Rewrites           []Rewrite
}

// Rewrite changes a repository's name.
type Rewrite struct {
	From *regexp.Regexp
	To   string // with $1
}

// Repository is the name that the endpoint has for a repository: the first rewrite
// that matches decides.
func (e Endpoint) Repository(name string) string {
	for _, r := range e.Rewrites {
		if r.From.MatchString(name) {
			return r.From.ReplaceAllString(name, r.To)
		}
	}
	return name
}

// Read reads the file. One that is not there says nothing.
func Read(file string) (Config, error) {
	var c Config
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err == nil {
		err = yaml.UnmarshalStrict(data, &c)
	}
	if err == nil {
		err = c.validate()
	}
	if err != nil {
		return Config{}, fmt.Errorf("read the registries' settings: %s: %w", file, err)
	}
	return c, nil
}

// validate looks at everything, so that a mistake is told of at the start and not
// when an image is wanted.
func (c Config) validate() error {
	var errs []error
	for name := range c.Mirrors {
		if _, err := c.mirrored(name); err != nil {
			errs = append(errs, fmt.Errorf("mirrors: %s: %w", name, err))
		}
	}
	for name, h := range c.Configs {
		if _, err := h.TLSConfig(); err != nil {
			errs = append(errs, fmt.Errorf("configs: %s: tls: %w", name, err))
		}
		if _, _, err := h.Auth.Credentials(); err != nil {
			errs = append(errs, fmt.Errorf("configs: %s: auth: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// Endpoints are the registry's mirrors, and then the registry itself unless that is
// not wanted where there are mirrors.
func (c Config) Endpoints(registry string, withoutDefault bool) ([]Endpoint, error) {
	all, err := c.mirrored(registry)
	if err != nil {
		return nil, err
	}
	if len(all) > 0 && withoutDefault {
		return all, nil
	}
	own := registry
	if own == "docker.io" {
		own = "registry-1.docker.io"
	}
	if !slices.ContainsFunc(all, func(e Endpoint) bool { return e.Host == own && e.Path == "/v2" }) {
		e := Endpoint{Scheme: schemeOf(own), Host: own, Path: "/v2", Config: c.host(own, registry)}
		if e.Config.TLS != nil {
			e.Scheme = "https"
		}
		all = append(all, e)
	}
	return all, nil
}

func (c Config) mirrored(registry string) ([]Endpoint, error) {
	m, ok := c.Mirrors[registry]
	if !ok {
		m = c.Mirrors["*"]
	}
	var rewrites []Rewrite
	for _, from := range slices.Sorted(maps.Keys(m.Rewrites)) {
		exp, err := regexp.Compile(from)
		if err != nil {
			return nil, fmt.Errorf("rewrite: %w", err)
		}
		rewrites = append(rewrites, Rewrite{From: exp, To: m.Rewrites[from]})
	}
	var all []Endpoint
	for _, text := range m.Endpoints {
		e, err := parseEndpoint(text)
		if err != nil {
			return nil, err
		}
		e.Rewrites, e.Config = rewrites, c.host(e.Host, e.Host)
		all = append(all, e)
	}
	if len(m.Endpoints) == 0 && len(rewrites) > 0 {
		return nil, errors.New("rewrite without an endpoint: only what a mirror is asked for can be rewritten")
	}
	return all, nil
}

func parseEndpoint(text string) (Endpoint, error) {
	full := text
	if !strings.Contains(full, "://") {
		full = schemeOf(text) + "://" + text
	}
	u, err := url.Parse(full)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.User != nil {
		return Endpoint{}, fmt.Errorf("endpoint %q: expected a URL such as https://mirror.example.org:5000", text)
	}
	e := Endpoint{Scheme: u.Scheme, Host: u.Host, Path: path.Clean("/" + u.Path)}
	if !strings.HasSuffix(e.Path, "/v2") {
		e.Path = path.Join(e.Path, "v2")
	}
	return e, nil
}

// schemeOf is http on this machine, where nothing comes between: for what is told no
// other.
func schemeOf(host string) string {
	name, _, _ := strings.Cut(host, "/")
	if u, err := url.Parse("//" + name); err == nil {
		switch u.Hostname() {
		case "localhost", "127.0.0.1", "::1":
			return "http"
		}
	}
	return "https"
}

// host is how one is spoken to that goes by these names.
func (c Config) host(names ...string) Host {
	for _, name := range names {
		for _, key := range []string{name, "https://" + name, "http://" + name} {
			if h, ok := c.Configs[key]; ok {
				return h
			}
		}
	}
	return c.Configs["*"]
}

// Credentials are a user's name and password, or no name and a token; both empty
// where there is nothing to log in with.
func (a *Auth) Credentials() (username, secret string, err error) {
	switch {
	case a == nil:
		return "", "", nil
	case a.IdentityToken != "":
		return "", a.IdentityToken, nil
	case a.Auth == "":
		return a.Username, a.Password, nil
	}
	plain, err := base64.StdEncoding.DecodeString(a.Auth)
	if err != nil {
		return "", "", fmt.Errorf("expected base64 of username:password: %w", err)
	}
	username, secret, ok := strings.Cut(strings.TrimRight(string(plain), "\x00"), ":")
	if !ok {
		return "", "", errors.New("expected base64 of username:password: there is no colon")
	}
	return username, secret, nil
}

// TLSConfig is what connections begin with; nil where nothing is set.
func (h Host) TLSConfig() (*tls.Config, error) {
	if h.TLS == nil {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: h.TLS.InsecureSkipVerify}
	if file := h.TLS.CAFile; file != "" {
		pem, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("ca_file: %w", err)
		}
		if c.RootCAs, err = x509.SystemCertPool(); err != nil {
			c.RootCAs = x509.NewCertPool()
		}
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca_file: %s has no certificate in PEM", file)
		}
	}
	if (h.TLS.CertFile == "") != (h.TLS.KeyFile == "") {
		return nil, errors.New("cert_file and key_file belong together")
	}
	if h.TLS.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(h.TLS.CertFile, h.TLS.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("cert_file, key_file: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}
