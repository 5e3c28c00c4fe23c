package rest

import (
	"testing"

	"github.com/skiff-sh/skiff/internal/auth"
)

func TestInflight(t *testing.T) {
	someone, master := auth.User{Name: "a"}, auth.User{Name: "b", Groups: []string{auth.GroupMasters}}
	f := newInflight(1, 1)
	ask := func(verb, subresource string, user auth.User) (func(), bool) {
		return f.enter(&request{verb: verb, user: user, path: path{subresource: subresource}})
	}
	leave, ok := ask("get", "", someone)
	if !ok {
		t.Fatal("the first read was refused")
	}
	for _, c := range []struct {
		verb, subresource string
		user              auth.User
		ok                bool
	}{
		{"list", "", someone, false},
		{"get", "", master, true},
		{"get", "log", someone, true},
		{"watch", "", someone, true},
		{"create", "exec", someone, true},
		{"create", "", someone, true},
		{"patch", "", someone, false},
	} {
		if _, ok := ask(c.verb, c.subresource, c.user); ok != c.ok {
			t.Errorf("%s %s by %s: let in %t, want %t", c.verb, c.subresource, c.user.Name, ok, c.ok)
		}
	}
	leave()
	if _, ok := ask("list", "", someone); !ok {
		t.Error("a place that was given back is not given again")
	}
}
