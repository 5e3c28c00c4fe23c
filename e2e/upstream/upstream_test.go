package upstream

import (
	"context"
	"os"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

const (
	build = "../../build/upstream/"
	skiff = "../../bin/skiff"
)

// TestStart starts each of the two, asks it for what every server has, and looks
// whether anything is left. Upstream's is tried where make twin has built it.
func TestStart(t *testing.T) {
	for _, c := range []struct {
		name  string
		start func(context.Context) (*Server, error)
	}{
		{"upstream", Kubernetes{Etcd: build + "etcd", APIServer: build + "kube-apiserver", Fast: true}.Start},
		{"skiff", Skiff{Executable: skiff}.Start},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := os.Stat(build); c.name == "upstream" && os.IsNotExist(err) {
				t.Skip("make test does not build upstream's server; make twin does")
			}
			s, err := c.start(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			client, err := kubernetes.NewForConfig(s.Config)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := client.CoreV1().Services("default").Get(t.Context(), "kubernetes", metav1.GetOptions{}); err != nil {
				t.Error(err)
			}
			if err := s.Stop(); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(s.Dir); !os.IsNotExist(err) {
				t.Errorf("%s is left: %v", s.Dir, err)
			}
		})
	}
}
