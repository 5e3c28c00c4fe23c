package auth

import (
	"errors"
	"net/http"
	"slices"
)

// Union asks its Authenticators in order; the first that finds a user is
// believed. Wrong credentials of one sort do not stand in the way of right ones
// of another: they are an error only when nobody finds a user.
type Union []Authenticator

// Authenticate tells who makes the request. The user belongs to
// GroupAuthenticated unless it is Anonymous.
func (u Union) Authenticate(r *http.Request) (User, bool, error) {
	var wrong []error
	for _, a := range u {
		user, ok, err := a.Authenticate(r)
		if err != nil {
			wrong = append(wrong, err)
			continue
		}
		if ok {
			return authenticated(user), true, nil
		}
	}
	return User{}, false, errors.Join(wrong...)
}

func authenticated(u User) User {
	if u.Name == Anonymous || slices.Contains(u.Groups, GroupUnauthenticated) || slices.Contains(u.Groups, GroupAuthenticated) {
		return u
	}
	u.Groups = append(slices.Clip(u.Groups), GroupAuthenticated)
	return u
}

// Nobody finds Anonymous in every request. In a Union it comes last, and there
// it hides wrong credentials only if whoever builds the Union means it to.
type Nobody struct{}

// Authenticate returns Anonymous.
func (Nobody) Authenticate(*http.Request) (User, bool, error) {
	return AnonymousUser(), true, nil
}

// AnonymousUser is who makes a request without credentials.
func AnonymousUser() User {
	return User{Name: Anonymous, Groups: []string{GroupUnauthenticated}}
}
