package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"slices"
	"strings"
)

// Agent are the settings of `skiff agent`.
type Agent struct {
	Node
	Servers   []string // https://HOST:PORT, tried in turn
	Token     string
	TokenFile string
}

// DefaultAgent returns the settings of an agent that is told nothing.
func DefaultAgent() Agent { return Agent{Node: defaultNode()} }

// Settings binds every field to its key.
func (a *Agent) Settings() []Setting {
	return slices.Concat(a.settings(), a.Node.settings())
}

func (a *Agent) settings() []Setting {
	return []Setting{
		{"server", "servers of the cluster, https://HOST:6443, tried in turn", stringsValue(&a.Servers)},
		{"token", "token that lets this machine join (see skiff token)", stringValue(&a.Token)},
		{"token-file", "file that holds the token", pathValue(&a.TokenFile)},
	}
}

// Validate fills what derives from other settings and returns everything that
// does not fit together, joined in one error. The token may be missing, and its
// file too: a node that has joined does not need it any more.
func (a *Agent) Validate() error {
	errs := []error{a.Node.validate(), serverURLs(a.Servers)}
	var err error
	if a.Token, err = readToken(a.Token, a.TokenFile); !errors.Is(err, fs.ErrNotExist) { // it may be gone once it is not needed
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// serverURLs gives each of some servers its port, in place.
func serverURLs(servers []string) error {
	if len(servers) == 0 {
		return errors.New("server: expected the cluster's address, such as https://192.0.2.1:6443; set it with --server or " + EnvironmentPrefix + "URL")
	}
	var errs []error
	for i, text := range servers {
		server, err := serverURL(text)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		servers[i] = server
	}
	return errors.Join(errs...)
}

// serverURL returns a server's URL with its port.
func serverURL(text string) (string, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
		return "", fmt.Errorf("server %q: expected https://HOST:PORT, such as https://192.0.2.1:6443", text)
	}
	if u.Port() == "" {
		u.Host += ":6443"
	}
	return "https://" + u.Host, nil
}
