// Package auth answers two questions about a request: who is it, and may they.
//
// User is the answer to the first, Attributes is the second question. An
// Authenticator turns credentials into a User: Certificates, Tokens and Bootstrap
// are the three, a Union asks several. An Authorizer decides; NewAuthorizer lists them.
// Tokens also issues what it recognizes. The invariant: all are pure reads of
// the state and of keys given at construction. The package never writes.
package auth

import (
	"context"
	"net/http"
)

// Well-known names and groups.
const (
	Anonymous            = "system:anonymous"
	GroupMasters         = "system:masters"
	GroupAuthenticated   = "system:authenticated"
	GroupUnauthenticated = "system:unauthenticated"
	GroupNodes           = "system:nodes"
	GroupServiceAccounts = "system:serviceaccounts"
)

// User is who makes a request.
type User struct {
	Name   string
	UID    string
	Groups []string
	Extra  map[string][]string
}

// Attributes is what a request wants to do.
type Attributes struct {
	User        User
	Verb        string // get, list, watch, create, update, patch, delete, deletecollection; lower-case HTTP verb for paths
	Path        string // of a request that is not for a resource
	Group       string
	Version     string
	Resource    string
	Subresource string
	Namespace   string
	Name        string
	// FieldSelector and LabelSelector are given for list, watch and
	// deletecollection (KEP-4601).
	FieldSelector, LabelSelector string
}

// Decision is the answer of an Authorizer.
type Decision uint8

// The decisions.
const (
	NoOpinion Decision = iota
	Allow
	Deny
)

// Authenticator tells who makes a request. ok is false when it found none of
// its credentials; an error means that there were some and they are wrong.
type Authenticator interface {
	Authenticate(r *http.Request) (u User, ok bool, err error)
}

// Authorizer tells whether a request may be made. The reason is shown to the
// client.
type Authorizer interface {
	Authorize(ctx context.Context, a Attributes) (d Decision, reason string, err error)
}
