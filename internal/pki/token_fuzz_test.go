package pki

import "testing"

// A token is refused, or is the same when it is written and read again.
func FuzzToken(f *testing.F) {
	for _, seed := range []string{
		"", "K10", "K10" + digest + "::abcdef.0123456789abcdef", "K10" + digest + "::server:password", "K10" + digest + "::node:password",
		"abcdef.0123456789abcdef", "server:password", " K10" + digest + "::server:a\n", "::", "K10::", "K10" + digest, "server:", ":", ".", "a.b", "\x00", "K10\xff", "//",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		ParseBearer(text)
		got, err := ParseToken(text)
		if err != nil {
			return
		}
		again, err := ParseToken(got.Text())
		if err != nil || again != got {
			t.Errorf("%q is %+v, written %q, read %+v, %v", text, got, got.Text(), again, err)
		}
		if bearer, ok := ParseBearer(got.Bearer()); got.ID != "" && (!ok || bearer.ID != got.ID || bearer.Secret != got.Secret) {
			t.Errorf("%q as a bearer is %+v, %v", text, bearer, ok)
		}
	})
}
