package registries

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func read(t *testing.T, text string) (Config, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "registries.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Read(file)
}

func TestEndpoints(t *testing.T) {
	c, err := read(t, `
mirrors:
  docker.io:
    endpoint: ["https://mirror.example.org:5000", "http://near.example.org/hub", "localhost:5001/v2"]
    rewrite: {"^library/(.*)": "hub/$1", "^z": "y"}
  plain.example.org: {}
  quay.io: {endpoint: ["https://quay.io"]}
  "*": {endpoint: ["https://all.example.org"]}
configs:
  mirror.example.org:5000: {auth: {username: me, password: secret}}
  docker.io: {auth: {username: hub, password: pass}}
  "*": {auth: {identity_token: anyone}}
`)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		registry       string
		withoutDefault bool
		want           string
	}{
		{"docker.io", false, "https://mirror.example.org:5000/v2 me, http://near.example.org/hub/v2 , http://localhost:5001/v2 , https://registry-1.docker.io/v2 hub"},
		{"docker.io", true, "https://mirror.example.org:5000/v2 me, http://near.example.org/hub/v2 , http://localhost:5001/v2 "},
		{"plain.example.org", true, "https://plain.example.org/v2 "},
		{"quay.io", false, "https://quay.io/v2 "},
		{"other.example.org", false, "https://all.example.org/v2 , https://other.example.org/v2 "},
	} {
		got, err := c.Endpoints(tc.registry, tc.withoutDefault)
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, e := range got {
			user, _, err := e.Config.Auth.Credentials()
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, e.Scheme+"://"+e.Host+e.Path+" "+user)
		}
		if text := strings.Join(all, ", "); text != tc.want {
			t.Errorf("%s: %s\nwant %s", tc.registry, text, tc.want)
		}
	}
	hub, err := c.Endpoints("docker.io", false)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"library/busybox": "hub/busybox", "zoo/z": "yoo/z", "other/x": "other/x"} {
		if got := hub[0].Repository(name); got != want {
			t.Errorf("%s becomes %s, want %s", name, got, want)
		}
	}
	if got := hub[3].Repository("library/busybox"); got != "library/busybox" {
		t.Errorf("the registry itself is asked for %s", got)
	}
}

func TestCredentials(t *testing.T) {
	for _, c := range []struct {
		auth         *Auth
		user, secret string
		bad          bool
	}{
		{nil, "", "", false},
		{&Auth{Username: "me", Password: "pw"}, "me", "pw", false},
		{&Auth{Auth: "bWU6cHc6eA=="}, "me", "pw:x", false},
		{&Auth{IdentityToken: "token"}, "", "token", false},
		{&Auth{Auth: "???"}, "", "", true},
		{&Auth{Auth: "bWU="}, "", "", true},
	} {
		user, secret, err := c.auth.Credentials()
		if user != c.user || secret != c.secret || (err != nil) != c.bad {
			t.Errorf("%+v: %q, %q, %v", c.auth, user, secret, err)
		}
	}
}

func TestRead(t *testing.T) {
	if c, err := Read(filepath.Join(t.TempDir(), "absent")); err != nil || len(c.Mirrors)+len(c.Configs) > 0 {
		t.Errorf("of no file: %+v, %v", c, err)
	}
	for text, want := range map[string]string{
		"mirrors: {docker.io: {endpoints: [x]}}":                             `unknown field "endpoints"`,
		"mirrors: {docker.io: {endpoint: ['ftp://x']}}":                      "expected a URL such as https://mirror.example.org:5000",
		"mirrors: {docker.io: {endpoint: ['https://x'], rewrite: {'(': y}}}": "rewrite: error parsing regexp",
		"mirrors: {docker.io: {rewrite: {x: y}}}":                            "rewrite without an endpoint",
		"configs: {x: {tls: {ca_file: /absent.pem}}}":                        "configs: x: tls: ca_file: open /absent.pem",
		"configs: {x: {tls: {ca_file: /dev/null}}}":                          "has no certificate in PEM",
		"configs: {x: {tls: {cert_file: /dev/null}}}":                        "cert_file and key_file belong together",
		"configs: {x: {auth: {auth: '?'}}}":                                  "expected base64 of username:password",
		"a: [":                                                               "yaml",
	} {
		_, err := read(t, text)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "registries.yaml") {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
