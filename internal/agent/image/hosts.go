package image

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/remotes/docker"

	"github.com/skiff-sh/skiff/internal/agent"
	"github.com/skiff-sh/skiff/internal/agent/image/registries"
)

// hosts says where to ask for a registry's images, and how: as registries.yaml has
// it, or over HTTPS (HTTP on this machine) without it.
func (s *Store) hosts(credential agent.Credential, progress *progress) (docker.RegistryHosts, error) {
	settings, err := registries.Read(s.config.Registries)
	if err != nil {
		return nil, err
	}
	return func(registry string) ([]docker.RegistryHost, error) {
		endpoints, err := settings.Endpoints(registry, s.config.OnlyMirrors)
		if err != nil {
			return nil, err
		}
		var all []docker.RegistryHost
		for _, e := range endpoints {
			h, err := s.host(e, credential, progress)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", e.Host, err)
			}
			all = append(all, h)
		}
		return all, nil
	}, nil
}

func (s *Store) host(e registries.Endpoint, credential agent.Credential, progress *progress) (docker.RegistryHost, error) {
	settings, err := e.Config.TLSConfig()
	if err != nil {
		return docker.RegistryHost{}, fmt.Errorf("tls: %w", err)
	}
	username, secret, err := e.Config.Auth.Credentials()
	if err != nil {
		return docker.RegistryHost{}, fmt.Errorf("auth: %w", err)
	}
	if sameRegistry(credential.Registry, e.Host) {
		switch {
		case credential.Token != "":
			username, secret = "", credential.Token
		case credential.Username != "" || credential.Password != "":
			username, secret = credential.Username, credential.Password
		}
	}
	web := &http.Client{Transport: progress.count(rewriting{e, newTransport(settings, s.config.Latest)})}
	options := []docker.AuthorizerOpt{docker.WithAuthClient(web)}
	if secret != "" {
		options = append(options, docker.WithAuthCreds(func(string) (string, string, error) { return username, secret, nil }))
	}
	return docker.RegistryHost{
		Client: web, Authorizer: docker.NewDockerAuthorizer(options...),
		Scheme: e.Scheme, Host: e.Host, Path: e.Path,
		Capabilities: docker.HostCapabilityPull | docker.HostCapabilityResolve,
	}, nil
}

// newTransport returns what carries requests to registries. To a machine whose clock
// is behind, their certificates would not have begun yet.
func newTransport(settings *tls.Config, latest func() time.Time) *http.Transport {
	if settings == nil {
		settings = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	settings.Time = latest
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.IdleConnTimeout = 10 * time.Second // a node seldom pulls twice in a row
	transport.TLSClientConfig = settings
	return transport
}

// rewriting asks an endpoint for what it has a repository under.
type rewriting struct {
	endpoint registries.Endpoint
	next     http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (w rewriting) RoundTrip(r *http.Request) (*http.Response, error) {
	below, ok := strings.CutPrefix(r.URL.Path, w.endpoint.Path+"/")
	if len(w.endpoint.Rewrites) == 0 || r.URL.Host != w.endpoint.Host || !ok {
		return w.next.RoundTrip(r)
	}
	for _, part := range []string{"/manifests/", "/blobs/", "/referrers/"} {
		i := strings.LastIndex(below, part)
		if i < 0 {
			continue
		}
		r = r.Clone(r.Context())
		r.URL.Path, r.URL.RawPath = path.Join(w.endpoint.Path, w.endpoint.Repository(below[:i])+below[i:]), ""
		break
	}
	return w.next.RoundTrip(r)
}

// sameRegistry accepts what people write in a pull secret: a host, with scheme
// and path or not, and Docker Hub's several names. Empty is any.
func sameRegistry(registry, host string) bool {
	registry = strings.TrimPrefix(strings.TrimPrefix(registry, "https://"), "http://")
	registry, _, _ = strings.Cut(registry, "/")
	hub := func(name string) bool {
		return name == "docker.io" || name == "index.docker.io" || name == "registry-1.docker.io"
	}
	return registry == "" || registry == host || hub(registry) && hub(host)
}
