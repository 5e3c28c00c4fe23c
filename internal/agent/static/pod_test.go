package static

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

const head = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  containers:\n  - name: c\n    image: example.org/web:1\n"

func TestRead(t *testing.T) {
	pods, err := Read("/a/web.yaml", []byte(head), "node1")
	if err != nil || len(pods) != 1 {
		t.Fatalf("got %v, %v", pods, err)
	}
	p := pods[0]
	if p.Name != "web-node1" || p.Namespace != "default" || p.Spec.NodeName != "node1" || !Is(p) || len(p.UID) != 32 ||
		p.Annotations["kubernetes.io/config.hash"] != string(p.UID) || p.Spec.RestartPolicy != corev1.RestartPolicyAlways ||
		len(p.Spec.Tolerations) != 1 || p.Status.Phase != corev1.PodPending {
		t.Errorf("got %+v", p)
	}
	same, _ := Read("/a/web.yaml", []byte(head), "node1")
	other, _ := Read("/b/web.yaml", []byte(head), "node1")
	if same[0].UID != p.UID || other[0].UID == p.UID {
		t.Errorf("UIDs %s, %s and of another file %s", p.UID, same[0].UID, other[0].UID)
	}
	m := Mirror(p, "4711")
	if uid, ok := MirrorOf(m); !ok || uid != p.UID || m.UID != "" || m.OwnerReferences[0].UID != "4711" {
		t.Errorf("mirror %+v", m)
	}
	if _, ok := MirrorOf(p); ok {
		t.Error("a static Pod passes for its mirror")
	}
}

func TestWhatIsNoStaticPod(t *testing.T) {
	for text, want := range map[string]string{
		"a: [":                            "yaml",
		"kind: Pod":                       "apiVersion",
		"apiVersion: v1\nkind: ConfigMap": "expected a Pod, found ConfigMap",
		"apiVersion: v1\nkind: Pod\nspec: {containers: [{name: c, image: i}]}": "name is needed for the pod",
		"apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {}":           "invalid pod",
		head + "  serviceAccountName: x\n":                                     "static pods may not reference serviceaccounts",
		head + "    envFrom: [{configMapRef: {name: x}}]\n":                    "static pods may not reference configmaps",
		head + "  volumes: [{name: v, secret: {secretName: x}}]\n":             "static pods may not reference secrets (via secret volumes)",
	} {
		if _, err := Read("/x", []byte(text), "n"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("of %q it says %v, want %s", text, err, want)
		}
	}
}
