package snapshot

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
)

// furnish makes an application in a namespace of its own.
func furnish(ctx context.Context, t *testing.T, client *kubernetes.Clientset) {
	t.Helper()
	meta := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name, Namespace: "shop"} }
	labels := map[string]string{"app": "web"}
	steps := []func() error{
		func() error {
			_, err := client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}, metav1.CreateOptions{})
			return err
		},
		func() error {
			_, err := client.CoreV1().ServiceAccounts("shop").Create(ctx, &corev1.ServiceAccount{ObjectMeta: meta("web")}, metav1.CreateOptions{})
			return err
		},
		func() error {
			_, err := client.CoreV1().ConfigMaps("shop").Create(ctx, &corev1.ConfigMap{ObjectMeta: meta("web"),
				Data: map[string]string{"a": "1", "text": "two\nlines\n"}, BinaryData: map[string][]byte{"b": {0, 255}}}, metav1.CreateOptions{})
			return err
		},
		func() error {
			_, err := client.CoreV1().Secrets("shop").Create(ctx, &corev1.Secret{ObjectMeta: meta("web"), Data: map[string][]byte{"p": []byte("x")}}, metav1.CreateOptions{})
			return err
		},
		func() error {
			_, err := client.CoreV1().Services("shop").Create(ctx, &corev1.Service{ObjectMeta: meta("web"), Spec: corev1.ServiceSpec{
				Selector: labels, Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromString("http")}}}}, metav1.CreateOptions{})
			return err
		},
		func() error {
			_, err := client.AppsV1().Deployments("shop").Create(ctx, &appsv1.Deployment{ObjectMeta: meta("web"), Spec: appsv1.DeploymentSpec{
				Replicas: new(int32(2)), Selector: &metav1.LabelSelector{MatchLabels: labels},
				Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels},
					Spec: corev1.PodSpec{ServiceAccountName: "web", Containers: []corev1.Container{{Name: "web", Image: "example.org/web:1"}}}},
			}}, metav1.CreateOptions{})
			return err
		},
	}
	for _, step := range steps {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	// Its ReplicaSet has been made when the Deployment says so.
	w, err := client.AppsV1().Deployments("shop").Watch(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	for e := range w.ResultChan() {
		if d, ok := e.Object.(*appsv1.Deployment); ok && d.Status.ObservedGeneration > 0 && d.Annotations["deployment.kubernetes.io/revision"] != "" {
			return
		}
	}
	t.Fatal("the Deployment is not looked after")
}

// What one cluster exports another takes, and exports the same.
func TestExportGoesToAnotherCluster(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	one := newMachine(t, "one", "192.0.2.1")
	furnish(ctx, t, one.start())
	args := []string{"export", "--without-owned", "-n", "shop"}
	online := one.must(args...)
	if again := one.must(args...); again != online {
		t.Errorf("twice is not the same:\n%s", cmp.Diff(online, again))
	}
	everything := one.must("export")
	for _, kind := range []string{"ReplicaSet", "Namespace", "Endpoints", "PriorityClass"} {
		if !strings.Contains(everything, "\nkind: "+kind+"\n") {
			t.Errorf("there is no %s in an export of everything", kind)
		}
	}
	// Events and references have such fields of other objects.
	plain := one.must("export", "namespaces", "configmaps", "secrets", "services", "deployments", "serviceaccounts")
	for _, field := range []string{"resourceVersion", "managedFields", "uid", "creationTimestamp"} {
		if strings.Contains(plain, "\n  "+field+":") {
			t.Errorf("the export has %s, which belongs to this cluster alone", field)
		}
	}
	out := one.must("snapshot", "save")
	file := strings.TrimSpace(strings.TrimPrefix(out, "saved "))
	if saved := one.must(append(args, "--snapshot", file)...); saved != online {
		t.Errorf("the export of a snapshot differs:\n%s", cmp.Diff(online, saved))
	}
	one.end(unix.SIGTERM)
	if offline := one.must(args...); offline != online {
		t.Errorf("the export without a server differs:\n%s", cmp.Diff(online, offline))
	}

	two := newMachine(t, "two", "192.0.2.2")
	two.start()
	// All that people made: the namespace is among it.
	made := one.must("export", "--without-owned")
	if _, err := two.run(strings.NewReader(made), "kubectl", "apply", "--server-side", "--force-conflicts", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	if got := two.must(args...); got != online {
		t.Errorf("the other cluster exports something else:\n%s", cmp.Diff(online, got))
	}
}
