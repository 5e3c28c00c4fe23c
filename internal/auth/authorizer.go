package auth

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/skiff-sh/skiff/internal/state"
)

// Chain asks its Authorizers in order; the first that has an opinion decides.
type Chain []Authorizer

// NewAuthorizer returns the authorizers of a cluster. The cheapest come first,
// and Masters before the rest, so that nothing can lock the administrator out.
func NewAuthorizer(s *state.State) Chain {
	return Chain{Masters{}, Public{}, Discovery{}, NewNode(s), NewBootstrappers(s)}
}

// Authorize returns the first opinion. Without one, the reasons of all are
// given, and what kept any from having one.
func (c Chain) Authorize(ctx context.Context, a Attributes) (Decision, string, error) {
	var reasons []string
	var wrong []error
	for _, one := range c {
		decision, reason, err := one.Authorize(ctx, a)
		if decision != NoOpinion {
			return decision, reason, err
		}
		if reason != "" {
			reasons = append(reasons, reason)
		}
		if err != nil {
			wrong = append(wrong, err)
		}
	}
	return NoOpinion, strings.Join(reasons, "\n"), errors.Join(wrong...)
}

// Masters lets GroupMasters do everything.
type Masters struct{}

// Authorize tells whether the request may be made.
func (Masters) Authorize(_ context.Context, a Attributes) (Decision, string, error) {
	return allowIf(a.User.in(GroupMasters)), "", nil
}

// Public lets everyone who is in one of the groups for that, also without
// credentials, ask for health and version, and whoever there is for the cluster's
// authority: a balancer has to know where to send before anyone can log in, and a
// machine whom to trust before it shows its token.
type Public struct{}

// Authorize tells whether the request may be made.
func (Public) Authorize(_ context.Context, a Attributes) (Decision, string, error) {
	if a.Resource != "" || a.Verb != "get" {
		return NoOpinion, "", nil
	}
	switch a.Path {
	case "/healthz", "/livez", "/readyz", "/version", "/version/":
		return allowIf(a.User.in(GroupAuthenticated) || a.User.in(GroupUnauthenticated)), "", nil
	case "/cacerts":
		return Allow, "", nil
	}
	return NoOpinion, "", nil
}

// Discovery lets authenticated users learn what the API has and what they
// themselves may do, and service accounts read the keys of their tokens.
type Discovery struct{}

// Authorize tells whether the request may be made.
func (Discovery) Authorize(_ context.Context, a Attributes) (Decision, string, error) {
	if !a.User.in(GroupAuthenticated) {
		return NoOpinion, "", nil
	}
	if a.Resource != "" {
		return allowIf(a.Verb == "create" && a.Subresource == "" && aboutOneself(a.Group, a.Resource)), "", nil
	}
	if a.Verb != "get" {
		return NoOpinion, "", nil
	}
	switch strings.TrimSuffix(a.Path, "/") {
	case "/.well-known/openid-configuration", "/openid/v1/jwks":
		return allowIf(a.User.in(GroupServiceAccounts)), "", nil
	}
	for _, root := range []string{"/api", "/apis", "/openapi"} {
		if a.Path == root || strings.HasPrefix(a.Path, root+"/") {
			return Allow, "", nil
		}
	}
	return NoOpinion, "", nil
}

func aboutOneself(group, resource string) bool {
	switch group + "/" + resource {
	case "authentication.k8s.io/selfsubjectreviews",
		"authorization.k8s.io/selfsubjectaccessreviews",
		"authorization.k8s.io/selfsubjectrulesreviews":
		return true
	}
	return false
}

func allowIf(yes bool) Decision {
	if yes {
		return Allow
	}
	return NoOpinion
}

func (u User) in(group string) bool { return slices.Contains(u.Groups, group) }
