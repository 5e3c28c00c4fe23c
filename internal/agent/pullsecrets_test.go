package agent

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// pullSecret has an entry for each location, whose user has the location's name.
func pullSecret(locations ...string) *corev1.Secret {
	auths := map[string]dockerAuth{}
	for _, l := range locations {
		auths[l] = dockerAuth{Username: l, Password: "secret"}
	}
	data, _ := json.Marshal(dockerConfig{auths})
	return &corev1.Secret{Type: corev1.SecretTypeDockerConfigJson, Data: map[string][]byte{corev1.DockerConfigJsonKey: data}}
}

func TestCredentialsOfAnImage(t *testing.T) {
	for _, test := range []struct {
		repository string
		locations  string
		want       string
	}{
		{"example.org/app", "example.org", "example.org"},
		{"example.org/app", "https://example.org http://other.org", "https://example.org"},
		{"example.org/app", "example.org:443", ""},
		{"example.org:5000/app", "example.org:5000 example.org", "example.org:5000"},
		{"a.example.org/app", "*.example.org", "*.example.org"},
		{"a.b.example.org/app", "*.example.org", ""},
		{"a.b.example.org/app", "*.*.example.org", "*.*.example.org"},
		{"example.org/app", "*.example.org", ""},
		{"prefix-a.example.org:5000/app", "prefix-*.example.org:5000 *.example.org", "prefix-*.example.org:5000"},
		{"example.org/app", "exam[.org", ""},
		{"example.org/team/app", "example.org/team example.org example.org/other", "example.org/team example.org"},
		{"example.org/teammate/app", "example.org/team", "example.org/team"}, // as upstream: a path begins alike
		{"example.org/app", "example.org/v2/ example.org/v1/app", "example.org/v1/app example.org/v2/"},
		{"example.org/app", "example.org/v2", ""},
		{"docker.io/library/busybox", "https://index.docker.io/v1/", "https://index.docker.io/v1/"},
		{"docker.io/library/busybox", "https://index.docker.io/v1/ docker.io", "docker.io"},
		{"docker.io/library/busybox", "docker.io/library docker.io", "docker.io/library docker.io"},
		{"docker.io/library/busybox", "index.docker.io/v1", ""},
		{"example.org/app", "index.docker.io", ""},
		{"127.0.0.1:5000/app", "127.0.0.1:5000", "127.0.0.1:5000"},
		{"127.0.0.1:5000/app", "127.0.*.*:5000", "127.0.*.*:5000"},
	} {
		var ring keyring
		if err := ring.add(pullSecret(strings.Fields(test.locations)...)); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, c := range ring.lookUp(test.repository) {
			got = append(got, c.Username)
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("%s with %s: got %q, want %q", test.repository, test.locations, got, test.want)
		}
	}
}

func TestSecretsInOrder(t *testing.T) {
	var ring keyring
	for _, auth := range []dockerAuth{{Username: "first"}, {Auth: base64.StdEncoding.EncodeToString([]byte("second:with:colon"))}, {Auth: base64.RawStdEncoding.EncodeToString([]byte("third:x"))}} {
		data, _ := json.Marshal(map[string]dockerAuth{"example.org": auth})
		old := &corev1.Secret{Type: corev1.SecretTypeDockercfg, Data: map[string][]byte{corev1.DockerConfigKey: data}}
		if err := ring.add(old); err != nil {
			t.Fatal(err)
		}
	}
	got := ring.lookUp("example.org/app")
	want := []Credential{{Username: "first"}, {Username: "second", Password: "with:colon"}, {Username: "third", Password: "x"}}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v", got)
	}
	for name, secret := range map[string]*corev1.Secret{
		"not base64":   {Type: corev1.SecretTypeDockercfg, Data: map[string][]byte{corev1.DockerConfigKey: []byte(`{"a.org":{"auth":"%"}}`)}},
		"no colon":     {Type: corev1.SecretTypeDockercfg, Data: map[string][]byte{corev1.DockerConfigKey: []byte(`{"a.org":{"auth":"YWJj"}}`)}},
		"not JSON":     {Type: corev1.SecretTypeDockerConfigJson, Data: map[string][]byte{corev1.DockerConfigJsonKey: []byte(`{`)}},
		"another type": {Type: corev1.SecretTypeOpaque, Data: map[string][]byte{corev1.DockerConfigJsonKey: []byte(`{"auths":{"a.org":{}}}`)}},
	} {
		var ring keyring
		if err := ring.add(secret); (err == nil) != (name == "another type") || len(ring) > 0 {
			t.Errorf("%s: %v, %+v", name, err, ring)
		}
	}
}

func TestPullCredentials(t *testing.T) {
	pod := webPod(func(p *corev1.Pod) {
		p.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "a"}, {Name: ""}, {Name: "gone"}, {Name: "broken"}}
	})
	from := memoryObjects{secrets: map[string]*corev1.Secret{
		"a":      pullSecret("https://index.docker.io/v1/", "example.org"),
		"broken": {Type: corev1.SecretTypeDockercfg, Data: map[string][]byte{corev1.DockerConfigKey: []byte(`{"a.org":{"auth":"%"}}`)}},
	}}
	got, err := pullCredentials(t.Context(), pod, "busybox:1", from)
	if len(got) != 1 || got[0] != (Credential{Registry: "docker.io", Username: "https://index.docker.io/v1/", Password: "secret"}) {
		t.Errorf("got %+v", got)
	}
	if err == nil || err.Error() != "gone, broken" {
		t.Errorf("missing are %v", err)
	}
}

func TestPullFailures(t *testing.T) {
	for _, test := range []struct {
		err             error
		reason, message string
	}{
		{errors.New("no room"), "ErrImagePull", "no room"},
		{fmt.Errorf("dial: %w", ErrRegistryUnavailable), "RegistryUnavailable",
			"image pull failed for a.org/b because the registry is unavailable: dial: the registry cannot be reached"},
	} {
		if got := pullFailure("a.org/b", test.err); got.Reason != test.reason || got.Error() != test.message {
			t.Errorf("%v: %s: %s", test.err, got.Reason, got)
		}
	}
}

func TestWhoMayUseAnImage(t *testing.T) {
	own := Credential{Username: "me", Password: "a", Source: "1"}
	changed, copied, other := own, own, Credential{Username: "you", Password: "a", Source: "2"}
	changed.Password, copied.Source = "b", "3"
	for name, test := range map[string]struct {
		had, has Credential
		may      bool
	}{
		"the same":                  {own, own, true},
		"the Secret has another":    {own, changed, true},
		"another Secret has it":     {own, copied, true},
		"somebody else":             {own, other, false},
		"somebody without a Secret": {own, Credential{}, false},
		"it needed none":            {Credential{}, Credential{}, true},
	} {
		secret := &corev1.Secret{Type: corev1.SecretTypeDockercfg}
		secret.UID = types.UID(test.has.Source)
		data, _ := json.Marshal(map[string]dockerAuth{"example.org": {Username: test.has.Username, Password: test.has.Password}})
		secret.Data = map[string][]byte{corev1.DockerConfigKey: data}
		pod := webPod(func(p *corev1.Pod) { p.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "a"}} })
		if test.has == (Credential{}) {
			pod.Spec.ImagePullSecrets = nil
		}
		from := memoryObjects{secrets: map[string]*corev1.Secret{"a": secret}}
		if got := mayHave(t.Context(), pod, "example.org/app", Image{Secrets: test.had.Marks()}, from); got != test.may {
			t.Errorf("%s: %t", name, got)
		}
	}
}
