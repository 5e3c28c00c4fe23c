package rest

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/apimachinery/pkg/api/errors"

	"github.com/skiff-sh/skiff/internal/auth"
)

const serviceAccountPrefix = "system:serviceaccount:"

// impersonates reports whether a request has any of the headers.
func impersonates(header http.Header) bool {
	for name := range header {
		if strings.HasPrefix(name, "Impersonate-") {
			as := impersonated(header)
			return as.Name != "" || as.UID != "" || len(as.Groups) > 0 || len(as.Extra) > 0
		}
	}
	return false
}

// impersonate returns whom a request is to be made as, if its user may be that
// user, each of those groups, and so on. ok is false after an answer was given.
func (h *Handler) impersonate(w http.ResponseWriter, r *http.Request, user auth.User) (as auth.User, ok bool) {
	as = impersonated(r.Header)
	if as.Name == "" {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		h.fail(w, r, errors.NewBadRequest(fmt.Sprintf("requested &user.DefaultInfo{Name:%q, UID:%q, Groups:%#v, Extra:%#v} without impersonating a user name",
			as.Name, as.UID, as.Groups, as.Extra)))
		return as, false
	}
	for _, a := range impersonations(user, as) {
		if !h.authorized(w, r, a) {
			return as, false
		}
	}
	return withImpliedGroups(as), true
}

// impersonated reads the headers.
func impersonated(header http.Header) auth.User {
	as := auth.User{
		Name:   header.Get(authenticationv1.ImpersonateUserHeader),
		UID:    header.Get(authenticationv1.ImpersonateUIDHeader),
		Groups: slices.Clone(header[authenticationv1.ImpersonateGroupHeader]),
	}
	for name, values := range header {
		key, ok := strings.CutPrefix(name, authenticationv1.ImpersonateUserExtraHeaderPrefix)
		if !ok {
			continue
		}
		key = strings.ToLower(key)
		if plain, err := url.PathUnescape(key); err == nil {
			key = plain
		}
		if as.Extra == nil {
			as.Extra = map[string][]string{}
		}
		as.Extra[key] = append(as.Extra[key], values...)
	}
	return as
}

// impersonations returns what has to be allowed.
func impersonations(user, as auth.User) []auth.Attributes {
	const group, version = "authentication.k8s.io", "v1"
	one := auth.Attributes{User: user, Verb: "impersonate", Version: version}
	var all []auth.Attributes
	add := func(group, resource, subresource, namespace, name string) {
		a := one
		a.Group, a.Resource, a.Subresource, a.Namespace, a.Name = group, resource, subresource, namespace, name
		all = append(all, a)
	}
	if namespace, name, ok := serviceAccount(as.Name); ok {
		add("", "serviceaccounts", "", namespace, name)
	} else {
		add("", "users", "", "", as.Name)
	}
	for _, g := range as.Groups {
		add("", "groups", "", "", g)
	}
	for key, values := range as.Extra {
		for _, value := range values {
			add(group, "userextras", key, "", value)
		}
	}
	if as.UID != "" {
		add(group, "uids", "", "", as.UID)
	}
	return all
}

// serviceAccount splits "system:serviceaccount:NAMESPACE:NAME".
func serviceAccount(user string) (namespace, name string, ok bool) {
	rest, ok := strings.CutPrefix(user, serviceAccountPrefix)
	if !ok {
		return "", "", false
	}
	namespace, name, ok = strings.Cut(rest, ":")
	return namespace, name, ok && namespace != "" && name != "" && !strings.Contains(name, ":")
}

// withImpliedGroups adds the groups that come with a name, as they would have
// with credentials.
func withImpliedGroups(as auth.User) auth.User {
	if namespace, _, ok := serviceAccount(as.Name); ok && len(as.Groups) == 0 {
		as.Groups = []string{auth.GroupServiceAccounts, auth.GroupServiceAccounts + ":" + namespace}
	}
	implied := auth.GroupAuthenticated
	if as.Name == auth.Anonymous {
		implied = auth.GroupUnauthenticated
	}
	if !slices.Contains(as.Groups, auth.GroupAuthenticated) && !slices.Contains(as.Groups, auth.GroupUnauthenticated) {
		as.Groups = append(as.Groups, implied)
	}
	return as
}
