package node

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A program that counts its calls and then has runc do the work stands for crun.
func TestHandlers(t *testing.T) {
	t.Parallel()
	m := ownMachine(t)
	bin, calls := t.TempDir(), filepath.Join(t.TempDir(), "calls")
	script := fmt.Sprintf("#!/bin/sh\necho \"$*\" >>%s\nexec %s/agent/bin/*/runc \"$@\"\n", calls, m.host.DataDir)
	if program := os.Getenv("SKIFF_E2E_CRUN"); program != "" { // the real one
		script = fmt.Sprintf("#!/bin/sh\necho \"$*\" >>%s\nexec %s \"$@\"\n", calls, program)
	}
	if err := os.WriteFile(filepath.Join(bin, "crun"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	m.env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
	c := m.open(t)
	c.retry(func() error {
		_, err := c.client.NodeV1().RuntimeClasses().Get(c.ctx, "crun", metav1.GetOptions{})
		return err
	})
	p := pod("other", "echo here; sleep 1000")
	p.Spec.RuntimeClassName = ptr("crun")
	p = c.startPod(p)
	c.startPod(pod("usual", "sleep 1000"))
	if log := c.exec("other", "echo inside"); !strings.Contains(log, "inside") {
		t.Errorf("exec: %q", log)
	}
	data, err := os.ReadFile(calls)
	id := strings.TrimPrefix(mainStatus(p).ContainerID, "containerd://")
	if err != nil || !strings.Contains(string(data), " create ") || !strings.Contains(string(data), id) {
		t.Errorf("calls of the handler: %v\n%s", err, data)
	}

	t.Log("the Pod keeps its handler when the class goes, over a restart of skiff and of its container")
	if err := c.client.NodeV1().RuntimeClasses().Delete(c.ctx, "crun", metav1.DeleteOptions{}); err != nil {
		t.Error(err)
	}
	if _, err := m.signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := m.start(); err != nil {
		t.Fatal(err)
	}
	c.exec("other", "kill -9 -1; kill 1; true")
	c.kubectl("delete", "pod", "other")

	strange := &nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: "strange"}, Handler: "strange-handler"}
	if _, err := c.client.NodeV1().RuntimeClasses().Create(c.ctx, strange, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	p = pod("nobody", "true")
	p.Spec.RuntimeClassName = ptr("strange")
	c.create(p)
	c.awaitEvent("nobody", "FailedCreatePodSandBox", `no runtime for "strange-handler" is configured`)
	p = pod("unknown", "true")
	p.Spec.RuntimeClassName = ptr("none")
	if _, err := c.pods().Create(c.ctx, p, metav1.CreateOptions{}); err == nil || !strings.Contains(err.Error(), `pod rejected: RuntimeClass "none" not found`) {
		t.Errorf("a Pod of an unknown class: %v", err)
	}
}

func TestOverhead(t *testing.T) {
	c := shared(t)
	class := &nodev1.RuntimeClass{
		ObjectMeta: metav1.ObjectMeta{Name: c.namespace}, Handler: "runc",
		Overhead: &nodev1.Overhead{PodFixed: corev1.ResourceList{"memory": resource.MustParse("16Mi"), "cpu": resource.MustParse("50m")}},
	}
	classes := c.client.NodeV1().RuntimeClasses()
	if _, err := classes.Create(c.ctx, class, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = classes.Delete(context.Background(), class.Name, metav1.DeleteOptions{}) })
	p := once("heavy", "true")
	p.Spec.RuntimeClassName = &class.Name
	p.Spec.Containers[0].Command = []string{"sh", "-c", "sleep 1000"}
	p.Spec.Containers[0].Resources.Limits = corev1.ResourceList{"memory": resource.MustParse("32Mi"), "cpu": resource.MustParse("100m")}
	p = c.startPod(p)
	if q := p.Spec.Overhead["memory"]; q.String() != "16Mi" {
		t.Errorf("overhead %v", p.Spec.Overhead)
	}
	found, err := filepath.Glob("/sys/fs/cgroup/memory/" + c.host.CgroupRoot + "/pod" + string(p.UID) + "/memory.limit_in_bytes")
	if err != nil || len(found) != 1 {
		t.Skipf("no such cgroup on this machine: %v %v", found, err)
	}
	if data, err := os.ReadFile(found[0]); err != nil || strings.TrimSpace(string(data)) != "50331648" {
		t.Errorf("the Pod's limit is %s, %v", data, err)
	}
}
