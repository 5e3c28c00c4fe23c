package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

func TestParseEnv(t *testing.T) {
	for _, c := range []struct{ text, want, problem string }{
		{"K='v'", "v", ""},
		{"\n# of nothing\n  A='1'\n\tK='v' # why\n", "v", ""},
		{"K='$HOME ${X} \\n \"#'\n", `$HOME ${X} \n "#`, ""},
		{"K='  a = b  '", "  a = b  ", ""},
		{"A='one\n\n two'\nK='x\ny'\n", "x\ny", ""},
		{"K='one\r\ntwo'\r\n", "one\ntwo", ""},
		{"K='first'\nK='second'", "first", ""},
		{"A='1'", "", ""},
		{"K=''", "", ""},
		{"K= 'v'", "", ""},
		{"A= 'v'\nK='v'", "v", ""},
		{"K='v'\nnonsense", "v", ""},
		{"", "", ""},
		{"A='1'\nnonsense", "", "at line 2: missing '='"},
		{"='v'", "", "at line 1: empty variable name"},
		{"A ='v'", "", "at line 1: whitespace before '=' is not allowed"},
		{"A=v", "", "at line 1: value must be enclosed in single quotes"},
		{`A="v"`, "", "at line 1: value must be enclosed in single quotes"},
		{"A=", "", "at line 1: value must be enclosed in single quotes"},
		{"A='v'x", "", "at line 1: unexpected content after closing quote"},
		{"A='v''w'", "", "at line 1: unexpected content after closing quote"},
		{"\nA='v\nw", "", "starting at line 2: unclosed single quote"},
	} {
		got, err := parseEnv(c.text, "K")
		if got != c.want || (err == nil) != (c.problem == "") || err != nil && !strings.HasSuffix(err.Error(), c.problem) {
			t.Errorf("%q: %q %v", c.text, got, err)
		}
	}
}

func TestFileKeys(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "secret")
	dir := t.TempDir()
	for name, text := range map[string]string{outside: "K='of the host'", dir + "/good": "K='v'", dir + "/bad": "K=v", dir + "/secret": "K='of the Pod'"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{"out": outside, "root": "/secret", "up": "../../../../../../.." + outside} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	e := environment{Volumes: map[string]string{"v": dir}}
	const unparsed = "couldn't parse env file"
	for _, c := range []struct {
		ref  corev1.FileKeySelector
		want string
		ok   bool
		err  string
	}{
		{ref: corev1.FileKeySelector{VolumeName: "v", Path: "good", Key: "K"}, want: "v", ok: true},
		{ref: corev1.FileKeySelector{VolumeName: "v", Path: "root", Key: "K"}, want: "of the Pod", ok: true},
		{ref: corev1.FileKeySelector{VolumeName: "v", Path: "good", Key: "L"}, err: `environment variable key "L" not found in file "good"`},
		{ref: corev1.FileKeySelector{VolumeName: "v", Path: "good", Key: "L", Optional: ptr(true)}},
		{ref: corev1.FileKeySelector{VolumeName: "v", Path: "none", Key: "K", Optional: ptr(true)}, err: unparsed},
		{ref: corev1.FileKeySelector{VolumeName: "v", Path: "bad", Key: "K"}, err: unparsed},
		{ref: corev1.FileKeySelector{VolumeName: "v", Path: "out", Key: "K"}, err: unparsed},
		{ref: corev1.FileKeySelector{VolumeName: "v", Path: "up", Key: "K"}, err: unparsed},
		{ref: corev1.FileKeySelector{VolumeName: "v", Path: "pipe", Key: "K"}, err: unparsed},
		{ref: corev1.FileKeySelector{VolumeName: "w", Path: "good", Key: "K"}, err: `cannot find the volume "w" referenced by FileKeyRef`},
	} {
		got, ok, err := e.fileKey(&c.ref)
		text := ""
		if err != nil {
			text = err.Error()
		}
		if got != c.want || ok != c.ok || text != c.err {
			t.Errorf("%+v: %q %t %q", c.ref, got, ok, text)
		}
	}
}
