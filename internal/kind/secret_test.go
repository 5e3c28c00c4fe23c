package kind

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestSecretDefaults(t *testing.T) {
	s := &corev1.Secret{
		Data:       map[string][]byte{"a": []byte("1"), "b": []byte("2")},
		StringData: map[string]string{"b": "3", "c": "4"},
	}
	Secret.Default(s)
	want := &corev1.Secret{Type: "Opaque", Data: map[string][]byte{"a": []byte("1"), "b": []byte("3"), "c": []byte("4")}}
	if d := cmp.Diff(want, s); d != "" {
		t.Error(d)
	}
	s = &corev1.Secret{Type: "mine", StringData: map[string]string{"a": "1"}}
	Secret.Default(s)
	if s.Type != "mine" || string(s.Data["a"]) != "1" {
		t.Errorf("%+v", s)
	}
}

func TestSecretTypes(t *testing.T) {
	data := func(pairs ...string) map[string][]byte {
		m := map[string][]byte{}
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i]] = []byte(pairs[i+1])
		}
		return m
	}
	cases := []struct {
		kind corev1.SecretType
		data map[string][]byte
		want []string
	}{
		{"Opaque", nil, nil},
		{"Opaque", data("a b", ""), []string{`data[a b]: Invalid value: "a b": ` + badKey}},
		{"example.com/any", nil, nil},
		{"kubernetes.io/service-account-token", nil, []string{"metadata.annotations[kubernetes.io/service-account.name]: Required value"}},
		{"kubernetes.io/dockercfg", nil, []string{"data[.dockercfg]: Required value"}},
		{"kubernetes.io/dockercfg", data(".dockercfg", "{}"), nil},
		{"kubernetes.io/dockerconfigjson", nil, []string{"data[.dockerconfigjson]: Required value"}},
		{"kubernetes.io/dockerconfigjson", data(".dockerconfigjson", "x"),
			[]string{`data[.dockerconfigjson]: Invalid value: "<secret contents redacted>": invalid character 'x' looking for beginning of value`}},
		{"kubernetes.io/basic-auth", nil, []string{"data[username]: Required value", "data[password]: Required value"}},
		{"kubernetes.io/basic-auth", data("password", ""), nil},
		{"kubernetes.io/ssh-auth", data("ssh-privatekey", ""), []string{"data[ssh-privatekey]: Required value"}},
		{"kubernetes.io/ssh-auth", data("ssh-privatekey", "x"), nil},
		{"kubernetes.io/tls", nil, []string{"data[tls.crt]: Required value", "data[tls.key]: Required value"}},
		{"kubernetes.io/tls", data("tls.crt", "", "tls.key", ""), nil},
	}
	for _, c := range cases {
		t.Run(string(c.kind), func(t *testing.T) {
			sameErrors(t, Secret.Validate(&corev1.Secret{Type: c.kind, Data: c.data}), c.want...)
		})
	}
	big := &corev1.Secret{Data: data("a", string(make([]byte, 1<<20)), "b", "x")}
	sameErrors(t, Secret.Validate(big), "data: Too long: may not be more than 1048576 bytes")
}

func TestSecretUpdate(t *testing.T) {
	old := &corev1.Secret{Type: "Opaque", Immutable: ptr(true), Data: map[string][]byte{"a": []byte("1")}}
	sameErrors(t, Secret.ValidateUpdate(&corev1.Secret{Type: "mine"}, old),
		`type: Invalid value: "mine": field is immutable`,
		"immutable: Forbidden: field is immutable when `immutable` is set",
		"data: Forbidden: field is immutable when `immutable` is set")
	sameErrors(t, Secret.ValidateUpdate(old.DeepCopy(), old))
}

func TestSecretRow(t *testing.T) {
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s"}, Type: "Opaque", Data: map[string][]byte{"a": nil}}
	rowOf(t, Secret, s, "s", "Opaque", int64(1), "3h")
	if got := Secret.Fields(s).Get("type"); got != "Opaque" {
		t.Errorf("field type %q", got)
	}
	if got := Secret.Warnings(&corev1.Secret{Type: "kubernetes.io/tls"}, nil); len(got) != 1 || got[0] != "tls: failed to find any PEM data in certificate input" {
		t.Errorf("warnings %q", got)
	}
	if got := Secret.Warnings(s, nil); got != nil {
		t.Errorf("warnings %q", got)
	}
}

func TestServiceAccount(t *testing.T) {
	a := &corev1.ServiceAccount{
		ObjectMeta: metav1.ObjectMeta{Name: "app", Annotations: map[string]string{"kubernetes.io/enforce-mountable-secrets": "true"}},
		Secrets:    []corev1.ObjectReference{{Name: "s", Namespace: "elsewhere", UID: "1"}},
	}
	want := []string{"metadata.annotations[kubernetes.io/enforce-mountable-secrets]: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets"}
	if d := cmp.Diff(want, ServiceAccount.Warnings(a, nil)); d != "" {
		t.Error(d)
	}
	if got := ServiceAccount.Warnings(a, a.DeepCopy()); got != nil {
		t.Errorf("warned again: %q", got)
	}
	for name, prepare := range map[string]func(){
		"create": func() { ServiceAccount.PrepareCreate(a) },
		"update": func() { ServiceAccount.PrepareUpdate(a, &corev1.ServiceAccount{}) },
	} {
		a.Secrets[0].Namespace = "elsewhere"
		prepare()
		if d := cmp.Diff([]corev1.ObjectReference{{Name: "s"}}, a.Secrets); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	rowOf(t, ServiceAccount, a, "app", "3h")
}
