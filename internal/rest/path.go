package rest

import (
	"net/http"
	"strings"

	"github.com/skiff-sh/skiff/internal/auth"
)

// groupVersion is a map key for "/apis/GROUP/VERSION".
type groupVersion struct{ group, version string }

// path is what a URL's path says, in upstream's reading of it.
type path struct {
	groupVersion
	namespace   string
	resource    string
	name        string
	subresource string
	tail        string // after the subresource, for proxies, without leading slash
	watch       bool   // the old /watch/ form
}

// parsePath reads the path of a request for a resource. ok is false for all
// other paths, discovery's included.
func parsePath(p string) (t path, ok bool) {
	rest, isCore := strings.CutPrefix(p, "/api/")
	if !isCore {
		if rest, ok = strings.CutPrefix(p, "/apis/"); !ok {
			return t, false
		}
		t.group, rest, _ = strings.Cut(rest, "/")
		if t.group == "" {
			return t, false
		}
	}
	t.version, rest, _ = strings.Cut(rest, "/")
	first, rest, _ := strings.Cut(rest, "/")
	if first == "watch" {
		t.watch = true
		first, rest, _ = strings.Cut(rest, "/")
	}
	if first == "" {
		return t, false
	}
	if first == "namespaces" && rest != "" {
		t.namespace, rest, _ = strings.Cut(rest, "/")
		first, rest, _ = strings.Cut(rest, "/")
		// Without a resource it is about the namespace itself, which then
		// counts as its own namespace, for authorization too.
		switch first {
		case "":
			t.resource, t.name = "namespaces", t.namespace
			return t, true
		case "status", "finalize":
			t.resource, t.name, t.subresource = "namespaces", t.namespace, first
			return t, true
		}
	}
	t.resource = first
	t.name, rest, _ = strings.Cut(rest, "/")
	t.subresource, t.tail, _ = strings.Cut(rest, "/")
	return t, true
}

// verb returns the API verb of a method on the path.
func (t *path) verb(method string, watch bool) string {
	switch method {
	case http.MethodPost:
		return "create"
	case http.MethodPut:
		return "update"
	case http.MethodPatch:
		return "patch"
	case http.MethodDelete:
		if t.name == "" {
			return "deletecollection"
		}
		return "delete"
	case http.MethodGet, http.MethodHead:
		switch {
		case t.watch || watch && t.subresource == "" && t.name == "":
			return "watch"
		case t.name == "":
			return "list"
		}
		return "get"
	}
	return ""
}

// attributes returns what authorization is asked for a request on the path.
func (t *path) attributes(user auth.User, verb string) auth.Attributes {
	return auth.Attributes{
		User: user, Verb: verb,
		Group: t.group, Version: t.version,
		Resource: t.resource, Subresource: t.subresource,
		Namespace: t.namespace, Name: t.name,
	}
}
