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

// TestStart starts whichever of the two has been built, asks it for what every
// server has, and looks whether anything is left.
func TestStart(t *testing.T) {
	for _, c := range []struct {
		name  string
		needs []string
		start func(context.Context) (*Server, error)
	}{
		{"upstream", []string{build + "etcd", build + "kube-apiserver"}, Kubernetes{Etcd: build + "etcd", APIServer: build + "kube-apiserver", Fast: true}.Start},
		{"skiff", []string{skiff}, Skiff{Executable: skiff}.Start},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, program := range c.needs {
				if _, err := os.Stat(program); err != nil {
					t.Skip("not built: make twin builds it")
				}
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
