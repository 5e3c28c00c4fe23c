package agent

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestStaticPods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		dir := filepath.Join(b.host.DataDir, "agent", "pod-manifests")
		write := func(args string) {
			t.Helper()
			text := "apiVersion: v1\nkind: Pod\nmetadata: {name: edge}\nspec:\n  containers:\n  - {name: c, image: 'hello:1', args: [" + args + "]}\n"
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "edge.yaml"), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		shown := func() *corev1.Pod {
			t.Helper()
			pod, err := b.client.CoreV1().Pods("default").Get(context.Background(), "edge-n1", metav1.GetOptions{})
			if apierrors.IsNotFound(err) {
				return nil
			}
			if err != nil {
				t.Fatal(err)
			}
			return pod
		}
		changed := func() {
			b.agent.statics.poke() // as the watch of the directory does
			pass(time.Second)
		}
		write("one")
		b.start()
		defer func() { b.stop() }()
		pass(time.Second)
		b.wantCalls("create c/0", "start c/0")
		mirror := shown()
		if mirror == nil || mirror.Status.Phase != corev1.PodRunning || condition(mirror, corev1.PodReady) != "True  " ||
			mirror.Annotations["kubernetes.io/config.source"] != "file" || mirror.Annotations["kubernetes.io/config.mirror"] != mirror.Annotations["kubernetes.io/config.hash"] ||
			len(mirror.OwnerReferences) != 1 || mirror.OwnerReferences[0].Kind != "Node" {
			t.Fatalf("the mirror is %+v", mirror)
		}
		// A deleted mirror comes back; what runs is not touched.
		if err := b.client.CoreV1().Pods("default").Delete(context.Background(), "edge-n1", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		pass(time.Second)
		b.wantCalls()
		if again := shown(); again == nil || again.Status.Phase != corev1.PodRunning {
			t.Errorf("the mirror is %+v", again)
		}
		// A file that went wrong harms nothing.
		write("{")
		changed()
		b.wantCalls()
		// The agent, started again, takes over what runs.
		write("one")
		b.stop()
		b.start()
		pass(time.Second)
		b.wantCalls()
		// Another content is another Pod, once the former has ended.
		write("two")
		changed()
		pass(time.Second)
		b.wantCalls("kill c/0 15", "remove c/0", "create c/0", "start c/0")
		if after := shown(); after == nil || after.Annotations["kubernetes.io/config.hash"] == mirror.Annotations["kubernetes.io/config.hash"] || after.Status.Phase != corev1.PodRunning {
			t.Errorf("the mirror is %+v", after)
		}
		if err := os.Remove(filepath.Join(dir, "edge.yaml")); err != nil {
			t.Fatal(err)
		}
		changed()
		b.wantCalls("kill c/0 15", "remove c/0")
		if after := shown(); after != nil {
			t.Errorf("the mirror is left: %+v", after)
		}
	})
}
