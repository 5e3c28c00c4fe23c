package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	ktesting "k8s.io/client-go/testing"
)

func podOf(name, owner string) corev1.Pod {
	p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID("uid-" + name)}}
	p.Spec.NodeName = "n1"
	if owner != "" {
		p.OwnerReferences = []metav1.OwnerReference{{Kind: owner, Name: "owner", Controller: new(true)}}
	}
	return p
}

func TestWhichPodsGo(t *testing.T) {
	mirror := podOf("mirror", "Node")
	mirror.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"}
	over := podOf("over", "")
	over.Status.Phase = corev1.PodSucceeded
	ending := podOf("ending", "")
	ending.DeletionTimestamp = new(metav1.Now())
	easy := []corev1.Pod{podOf("web", "ReplicaSet"), podOf("daemon", "DaemonSet"), mirror, over, ending}
	names := func(pods []corev1.Pod) (all []string) {
		for _, p := range pods {
			all = append(all, p.Name)
		}
		return all
	}
	if got, err := plan(easy, false); err != nil || !slices.Equal(names(got), []string{"web", "over", "ending"}) {
		t.Errorf("got %q, %v", names(got), err)
	}
	hard := append(easy, podOf("lone", ""), podOf("alone", ""))
	_, err := plan(hard, false)
	if want := "no controller would start these Pods elsewhere: default/alone, default/lone: delete them, or lose them with --force"; err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
	if got, err := plan(hard, true); err != nil || len(got) != 5 {
		t.Errorf("got %q, %v", names(got), err)
	}
}

// A Pod that may not go yet is asked for again, and the drain ends when the last
// one is gone.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		web, daemon := podOf("web", "ReplicaSet"), podOf("daemon", "DaemonSet")
		client := fake.NewClientset(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}, &web, &daemon)
		refusals := 2
		client.PrependReactor("create", "pods", func(a ktesting.Action) (bool, runtime.Object, error) {
			if a.GetSubresource() != "eviction" {
				return false, nil, nil
			}
			if refusals--; refusals >= 0 {
				return true, nil, apierrors.NewTooManyRequests("the budget does not allow it", 3)
			}
			e := a.(ktesting.CreateAction).GetObject().(*policyv1.Eviction)
			time.AfterFunc(time.Second, func() {
				_ = client.Tracker().Delete(corev1.SchemeGroupVersion.WithResource("pods"), e.Namespace, e.Name)
			})
			return true, nil, nil
		})
		var mu sync.Mutex
		var said []string
		start := time.Now()
		err := drain{client: client, node: "n1", say: func(format string, args ...any) {
			mu.Lock()
			defer mu.Unlock()
			said = append(said, fmt.Sprintf(format, args...))
		}}.run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took < 7*time.Second || took > 8*time.Second {
			t.Errorf("it took %s", took)
		}
		node, err := client.CoreV1().Nodes().Get(t.Context(), "n1", metav1.GetOptions{})
		if err != nil || !node.Spec.Unschedulable {
			t.Errorf("node is %+v, %v", node.Spec, err)
		}
		if got := strings.Join(said, "\n"); !strings.HasPrefix(got, "node/n1 cordoned\nevicting pod default/web\n") || !strings.HasSuffix(got, "pod default/web gone") || strings.Contains(got, "daemon") {
			t.Errorf("it said:\n%s", got)
		}
	})
}

// A Pod that does not end in time is told.
func TestDrainTakesTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		web := podOf("web", "ReplicaSet")
		client := fake.NewClientset(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}, &web)
		client.PrependReactor("create", "pods", func(a ktesting.Action) (bool, runtime.Object, error) {
			return a.GetSubresource() == "eviction", nil, nil
		})
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errors.New("not done within 1m"))
		defer cancel()
		err := drain{client: client, node: "n1", say: func(string, ...any) {}}.run(ctx)
		if err == nil || !strings.HasSuffix(err.Error(), "not done within 1m") || !strings.Contains(err.Error(), "default/web") {
			t.Errorf("got %v", err)
		}
	})
}

func TestSystemdUnit(t *testing.T) {
	for text, want := range map[string]string{
		"0::/system.slice/skiff-agent.service\n":                                  "skiff-agent.service",
		"1:name=systemd:/system.slice/skiff.service\n0::/\n":                      "skiff.service",
		"0::/user.slice/user-0.slice/session-1.scope\n":                           "",
		"0::/user.slice/user-0.slice/user@0.service/app.slice/terminal.service\n": "",
		"0::/\n": "",
	} {
		path := filepath.Join(t.TempDir(), "cgroup")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := systemdUnit(path); got != want {
			t.Errorf("%q: got %q", text, got)
		}
	}
}
