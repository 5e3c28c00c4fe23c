package agent

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func appArmorOf(typ corev1.AppArmorProfileType, name ...string) *corev1.AppArmorProfile {
	p := &corev1.AppArmorProfile{Type: typ}
	if len(name) > 0 {
		p.LocalhostProfile = &name[0]
	}
	return p
}

func TestAppArmor(t *testing.T) {
	const off = "Cannot enforce AppArmor: AppArmor is not enabled on the host"
	byDefault, none := appArmorOf(corev1.AppArmorProfileTypeRuntimeDefault), appArmorOf(corev1.AppArmorProfileTypeUnconfined)
	for _, c := range []struct {
		name       string
		pod, own   *corev1.AppArmorProfile
		annotation string
		want       string
		refused    string // where the kernel has AppArmor
		off        string // where it has not
	}{
		{name: "none"},
		{name: "the Pod's", pod: byDefault, want: "runtime/default", off: off},
		{name: "the container's own", pod: byDefault, own: none, want: "unconfined", off: off},
		{name: "unconfined", pod: none, want: "unconfined"},
		{name: "local", own: appArmorOf(corev1.AppArmorProfileTypeLocalhost, "deny"), want: "localhost/deny", off: off},
		{name: "the annotation before the Pod's", pod: byDefault, annotation: "localhost/deny", want: "localhost/deny", off: off},
		{name: "the field before the annotation", own: none, annotation: "runtime/default", want: "unconfined", off: off},
		{name: "annotated as unconfined", annotation: "unconfined", want: "unconfined"},
		{name: "an annotation that says nothing", annotation: "who/knows", off: off},
		{
			name: "local without a name", own: appArmorOf(corev1.AppArmorProfileTypeLocalhost, " "), want: "localhost/ ", off: off,
			refused: "Cannot enforce AppArmor: invalid empty AppArmor profile name: ",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			pod := webPod(func(p *corev1.Pod) {
				p.Spec.SecurityContext = &corev1.PodSecurityContext{AppArmorProfile: c.pod}
				p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{AppArmorProfile: c.own}
				if c.annotation != "" {
					p.Annotations = map[string]string{corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix + p.Spec.Containers[0].Name: c.annotation}
				}
			})
			if got, err := appArmor(pod, &pod.Spec.Containers[0]); err != nil || got != c.want {
				t.Errorf("%q, %v; want %q", got, err, c.want)
			}
			message := func(r *refusal) string {
				if r == nil {
					return ""
				}
				if r.Reason != "AppArmor" {
					t.Errorf("reason %s", r.Reason)
				}
				return r.Message
			}
			if got := message(unconfinable(pod, false)); got != c.off {
				t.Errorf("without AppArmor: %q, want %q", got, c.off)
			}
			if got := message(unconfinable(pod, true)); len(got) < len(c.refused) || got[:len(c.refused)] != c.refused || got != "" && c.refused == "" {
				t.Errorf("with AppArmor: %q, want %q", got, c.refused)
			}
		})
	}
}
