package pki

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// digest is of no authority; what it is of does not matter to a parser.
var digest = strings.Repeat("0123456789abcdef", 4)

func TestParseToken(t *testing.T) {
	for text, want := range map[string]Token{
		"K10" + digest + "::abcdef.0123456789abcdef":                  {Digest: digest, ID: "abcdef", Secret: "0123456789abcdef"},
		"K10" + strings.ToUpper(digest) + "::abcdef.0123456789abcdef": {Digest: digest, ID: "abcdef", Secret: "0123456789abcdef"},
		"K10" + digest + "::server:pass.word:1":                       {Digest: digest, Password: "pass.word:1"},
		" K10" + digest + "::server:password\n":                       {Digest: digest, Password: "password"},
		"abcdef.0123456789abcdef":                                     {ID: "abcdef", Secret: "0123456789abcdef"},
		"server:password":                                             {Password: "password"},
		"my-very.secret:password":                                     {Password: "my-very.secret:password"},
		"/a+base64/secret==":                                          {Password: "/a+base64/secret=="},
		"pässwörd":                                                    {Password: "pässwörd"},
	} {
		got, err := ParseToken(text)
		if err != nil || got != want {
			t.Errorf("%q: got %+v, %v", text, got, err)
		}
		again, err := ParseToken(got.Text())
		if err != nil || again != got {
			t.Errorf("%q: its text %q is read as %+v, %v", text, got.Text(), again, err)
		}
	}
}

// What is wrong with a token is told, and never its secret.
func TestParseTokenErrors(t *testing.T) {
	const secret = "0123456789abcdef"
	for text, want := range map[string]string{
		"":                      "it is empty",
		" \n\t":                 "it is empty",
		"K10":                   "it was cut off after 3 characters",
		"K10" + digest[:20]:     "it was cut off after 23 characters",
		"K10::abcdef." + secret: `there is no digest between K10 and "::"`,
		"K10" + digest[:60] + "::abcdef." + secret:                      "the digest behind K10 has 60 digits, it should have 64",
		"K10" + digest + "00::abcdef." + secret:                         "the digest behind K10 has 66 digits, it should have 64",
		"K10" + digest[:63] + "g::abcdef." + secret:                     "character 64 of the digest behind K10 is not a hexadecimal digit",
		"K10" + digest + "::":                                           "its end is missing",
		"K10" + digest + "::server:":                                    "its end is missing",
		"K10" + digest + "::node:password":                              `the user "node", it should be server`,
		"K10" + digest + "::abcdef" + secret:                            "an ID and a secret with a dot in between",
		"K10" + digest + "::abcde." + secret:                            "its ID is too short: 5 of 6 characters",
		"K10" + digest + "::abcdef." + secret[:10]:                      "its secret is too short: 10 of 16 characters",
		"K10" + digest + "::abcdef." + secret + "x":                     "its secret is too long: 17 characters instead of 16",
		"K10" + digest + "::abcDef." + secret:                           "character 4 of its ID is not one of a-z and 0-9",
		"K10" + digest + "::abcdef.0123456789ABCDEF":                    "character 11 of its secret is not one of a-z and 0-9",
		"abcdef." + secret[:15]:                                         "its secret is too short",
		"server:":                                                       "its end is missing",
		digest + "::abcdef." + secret:                                   "its beginning is missing",
		"k10" + digest + "::abcdef." + secret:                           "it begins with a small k",
		"K10" + digest[:30] + "\n" + digest[30:] + "::abcdef." + secret: "there is a space or a line break behind character 33",
		"eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJrdWJlIn0.c2ln":                 "it is a service account's token",
		"-----BEGIN CERTIFICATE-----\nMIIB\n":                           "it is a PEM file",
		"https://192.0.2.1:6443":                                        "it is an address: name that with --server",
		"/var/lib/skiff/server/token":                                   "it is a file's path: name that with --token-file",
	} {
		_, err := ParseToken(text)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "skiff token create") {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
		if err != nil && strings.Contains(err.Error(), secret[:10]) {
			t.Errorf("%q: the error shows the secret: %v", text, err)
		}
	}
}

// A new token is whole, for its cluster alone, and no other is like it.
func TestNewBootstrapToken(t *testing.T) {
	_, ca := open(t, t.TempDir(), clockAt(build))
	_, other := open(t, t.TempDir(), clockAt(build))
	token := NewBootstrapToken(ca.CertificatePEM())
	parsed, err := ParseToken(token.Text())
	if err != nil || parsed != token {
		t.Fatalf("%q is read as %+v, %v", token.Text(), parsed, err)
	}
	if second := NewBootstrapToken(ca.CertificatePEM()); second.ID == token.ID || second.Secret == token.Secret {
		t.Errorf("two tokens are alike: %s and %s", token.Text(), second.Text())
	}
	if err := token.Verify(ca.CertificatePEM()); err != nil {
		t.Error(err)
	}
	if err := token.Verify(other.CertificatePEM()); !errors.Is(err, ErrOtherAuthority) {
		t.Errorf("another authority: %v", err)
	}
	if err := token.Verify(append(ca.CertificatePEM(), '\n')); !errors.Is(err, ErrOtherAuthority) {
		t.Errorf("other bytes: %v", err)
	}
	if err := (Token{ID: token.ID, Secret: token.Secret}).Verify(ca.CertificatePEM()); !errors.Is(err, ErrNoDigest) {
		t.Errorf("without a digest: %v", err)
	}
	if found, ok := ParseBearer(token.Bearer()); !ok || found.ID != token.ID || found.Secret != token.Secret {
		t.Errorf("its bearer form is read as %+v, %t", found, ok)
	}
	if strings.Contains(token.String(), token.Secret) {
		t.Errorf("printed, it shows its secret: %s", token)
	}
}

func TestParseAuthority(t *testing.T) {
	f, ca := open(t, t.TempDir(), clockAt(build))
	leaf, err := f.Leaf("serving", ca, serving)
	if err != nil {
		t.Fatal(err)
	}
	if found, err := ParseAuthority(ca.CertificatePEM()); err != nil || !found.Equal(ca.Certificate) {
		t.Errorf("got %v, %v", found, err)
	}
	for name, c := range map[string]struct{ data, want string }{
		"a page":           {"<html>Log in to the hotel's network</html>", "does a proxy stand in between?"},
		"two certificates": {string(ca.CertificatePEM()) + string(ca.CertificatePEM()), "is not one certificate"},
		"a server's":       {string(leaf.CertificatePEM()), "not an authority's"},
		"damage":           {"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n", "read the certificate of /cacerts"},
	} {
		if _, err := ParseAuthority([]byte(c.data)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", name, err, c.want)
		}
	}
}

// The server's own token stays, follows its authority, and takes the password
// that is set.
func TestServerToken(t *testing.T) {
	dir := t.TempDir()
	f, ca := open(t, dir, clockAt(build))
	_, other := open(t, t.TempDir(), clockAt(build))
	must := func(authority Pair, given string) Token {
		t.Helper()
		token, err := f.Token(authority.CertificatePEM(), given)
		if err != nil {
			t.Fatal(err)
		}
		written, err := os.ReadFile(filepath.Join(dir, "node-token"))
		if err != nil || string(written) != token.Text()+"\n" || token.Verify(authority.CertificatePEM()) != nil {
			t.Fatalf("the file has %q for %q, %v", written, token.Text(), err)
		}
		info, err := os.Stat(filepath.Join(dir, "token"))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Fatalf("the file's mode is %v, %v", info.Mode(), err)
		}
		return token
	}
	first := must(ca, "")
	if len(first.Password) != 32 {
		t.Errorf("the password is %q", first.Password)
	}
	if err := os.Chmod(filepath.Join(dir, "token"), 0o644); err != nil {
		t.Fatal(err)
	}
	if again := must(ca, ""); again != first {
		t.Errorf("the second start has %s, the first %s", again.Text(), first.Text())
	}
	if moved := must(other, ""); moved.Password != first.Password {
		t.Errorf("another authority changed the password")
	}
	for given, want := range map[string]string{first.Text(): first.Password, "my-password": "my-password"} {
		if token := must(ca, given); token.Password != want {
			t.Errorf("%q: the password is %q", given, token.Password)
		}
	}
	must(ca, "my-password")
	if kept := must(ca, ""); kept.Password != "my-password" {
		t.Errorf("the password was not kept: %q", kept.Password)
	}
}

func TestServerTokenRefusals(t *testing.T) {
	dir := t.TempDir()
	f, ca := open(t, dir, clockAt(build))
	for given, want := range map[string]string{
		"short":                                  "too short",
		"my password":                            "there is a space",
		"abcdef.0123456789abcdef":                "cannot be a bootstrap token",
		"K10" + digest + "::server:my-password":  "another certificate authority",
		"K10" + digest[:9] + "::server:password": "the digest behind K10 has 9 digits",
	} {
		if _, err := f.Token(ca.CertificatePEM(), given); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", given, err, want)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "token")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a refused token left a file: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "token"), []byte("K10"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Token(ca.CertificatePEM(), ""); err == nil || !strings.Contains(err.Error(), "remove it and a new one is made") {
		t.Errorf("a damaged file: %v", err)
	}
}

// Only who has the password opens.
func TestTokenOpens(t *testing.T) {
	own := Token{Password: "password"}
	for _, c := range []struct {
		token          Token
		user, password string
		want           bool
	}{
		{own, "server", "password", true}, {own, "server", "Password", false}, {own, "server", "", false},
		{own, "node", "password", false}, {Token{}, "server", "", false},
	} {
		if got := c.token.Opens(c.user, c.password); got != c.want {
			t.Errorf("%+v opens for %s:%s: %t", c.token, c.user, c.password, got)
		}
	}
}
