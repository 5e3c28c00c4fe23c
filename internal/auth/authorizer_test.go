package auth

import (
	"errors"
	"net/http"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestForbidden(t *testing.T) {
	user := User{Name: "jane"}
	cases := []struct {
		name   string
		a      Attributes
		reason string
		want   string
	}{
		{"namespace", Attributes{User: user, Verb: "list", Version: "v1", Resource: "pods", Namespace: "ns"}, "",
			`pods is forbidden: User "jane" cannot list resource "pods" in API group "" in the namespace "ns"`},
		{"name", Attributes{User: user, Verb: "get", Version: "v1", Resource: "pods", Namespace: "ns", Name: "p"}, "",
			`pods "p" is forbidden: User "jane" cannot get resource "pods" in API group "" in the namespace "ns"`},
		{"cluster", Attributes{User: user, Verb: "list", Version: "v1", Resource: "nodes"}, "",
			`nodes is forbidden: User "jane" cannot list resource "nodes" in API group "" at the cluster scope`},
		{"group", Attributes{User: user, Verb: "create", Group: "apps", Version: "v1", Resource: "deployments", Namespace: "ns"}, "",
			`deployments.apps is forbidden: User "jane" cannot create resource "deployments" in API group "apps" in the namespace "ns"`},
		{"subresource", Attributes{User: user, Verb: "get", Version: "v1", Resource: "pods", Subresource: "log", Namespace: "ns", Name: "p"}, "",
			`pods "p" is forbidden: User "jane" cannot get resource "pods/log" in API group "" in the namespace "ns"`},
		{"path", Attributes{User: user, Verb: "get", Path: "/metrics"}, "",
			`forbidden: User "jane" cannot get path "/metrics"`},
		{"reason", Attributes{User: User{Name: "system:node:a"}, Verb: "get", Version: "v1", Resource: "secrets", Namespace: "ns", Name: "x"},
			"no relationship found between node 'a' and this object",
			`secrets "x" is forbidden: User "system:node:a" cannot get resource "secrets" in API group "" in the namespace "ns": no relationship found between node 'a' and this object`},
		{"markup", Attributes{User: User{Name: "<b>&"}, Verb: "get", Path: "/x"}, "",
			`forbidden: User "&lt;b&gt;&amp;" cannot get path "/x"`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			err := Forbidden(c.a, c.reason)
			if err.Error() != c.want {
				t.Errorf("got  %s\nwant %s", err, c.want)
			}
			var status *apierrors.StatusError
			if !errors.As(err, &status) || status.ErrStatus.Code != http.StatusForbidden || status.ErrStatus.Reason != metav1.StatusReasonForbidden ||
				status.ErrStatus.Details.Kind != c.a.Resource || status.ErrStatus.Details.Name != c.a.Name {
				t.Errorf("status: %+v", status)
			}
		})
	}
}

func TestAuthorizer(t *testing.T) {
	anonymous := AnonymousUser()
	plain := User{Name: "jane", Groups: []string{GroupAuthenticated}}
	admin := User{Name: "root", Groups: []string{GroupMasters, GroupAuthenticated}}
	app := User{Name: "system:serviceaccount:ns:app", Groups: []string{GroupServiceAccounts, GroupServiceAccounts + ":ns", GroupAuthenticated}}
	pretender := User{Name: "system:node:n1", Groups: []string{GroupAuthenticated}} // without the group

	path := func(verb, path string) Attributes { return Attributes{Verb: verb, Path: path} }
	resource := func(verb, group, name, subresource string) Attributes {
		return Attributes{Verb: verb, Group: group, Version: "v1", Resource: name, Subresource: subresource, Namespace: "ns"}
	}
	cases := []struct {
		a                                      Attributes
		anonymous, plain, app, admin, pretends bool
	}{
		{path("get", "/healthz"), true, true, true, true, true},
		{path("post", "/healthz"), false, false, false, true, false},
		{path("get", "/livez"), true, true, true, true, true},
		{path("get", "/readyz"), true, true, true, true, true},
		{path("get", "/version"), true, true, true, true, true},
		{path("get", "/version/"), true, true, true, true, true},
		{path("post", "/version"), false, false, false, true, false},
		{path("get", "/cacerts"), true, true, true, true, true},
		{path("post", "/cacerts"), false, false, false, true, false},
		{path("get", "/readyz/etcd"), false, false, false, true, false},
		{path("get", "/metrics"), false, false, false, true, false},
		{path("get", "/"), false, false, false, true, false},
		{path("get", "/api"), false, true, true, true, true},
		{path("get", "/api/v1"), false, true, true, true, true},
		{path("get", "/apis"), false, true, true, true, true},
		{path("get", "/apis/apps/v1"), false, true, true, true, true},
		{path("get", "/openapi/v3"), false, true, true, true, true},
		{path("post", "/apis"), false, false, false, true, false},
		{path("get", "/apiserver"), false, false, false, true, false},
		{path("get", "/openid/v1/jwks"), false, false, true, true, false},
		{path("get", "/openid/v1/jwks/"), false, false, true, true, false},
		{path("get", "/.well-known/openid-configuration"), false, false, true, true, false},
		{resource("create", "authentication.k8s.io", "selfsubjectreviews", ""), false, true, true, true, true},
		{resource("create", "authorization.k8s.io", "selfsubjectaccessreviews", ""), false, true, true, true, true},
		{resource("create", "authorization.k8s.io", "selfsubjectrulesreviews", ""), false, true, true, true, true},
		{resource("create", "authorization.k8s.io", "subjectaccessreviews", ""), false, false, false, true, false},
		{resource("create", "authentication.k8s.io", "tokenreviews", ""), false, false, false, true, false},
		{resource("get", "", "pods", ""), false, false, false, true, false},
		{resource("create", "", "pods", "exec"), false, false, false, true, false},
		{resource("delete", "", "nodes", ""), false, false, false, true, false},
		{resource("list", "", "services", ""), false, false, false, true, false},
	}
	chain := NewAuthorizer(stateWith(t))
	nobody := Attributes{User: User{Name: "jane", Groups: []string{"others"}}, Verb: "get", Path: "/healthz"}
	if d, _, err := chain.Authorize(t.Context(), nobody); d == Allow || err != nil {
		t.Errorf("health by a user in neither of the groups for it: %v %v", d, err)
	}
	for _, c := range cases {
		for _, who := range []struct {
			user User
			want bool
		}{{anonymous, c.anonymous}, {plain, c.plain}, {app, c.app}, {admin, c.admin}, {pretender, c.pretends}} {
			c.a.User = who.user
			d, reason, err := chain.Authorize(t.Context(), c.a)
			if (d == Allow) != who.want || err != nil {
				t.Errorf("%s %s%s%s by %s: %v (%s) %v", c.a.Verb, c.a.Path, c.a.Resource, c.a.Subresource, who.user.Name, d, reason, err)
			}
		}
	}
}
