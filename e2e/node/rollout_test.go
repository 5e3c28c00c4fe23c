package node

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/e2e/await"
	"github.com/skiff-sh/skiff/e2e/box"
)

// deployment returns the manifest of one whose Pods tell their version.
func deployment(name, version string, replicas int) string {
	return fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s}
spec:
  replicas: %[3]d
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: main
        image: %[4]s
        env: [{name: VERSION, value: %[2]q}]
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
`, name, version, replicas, box.Image)
}

// versions are the values of VERSION in the Pods that are not going away.
func (c *cluster) versions(app string) []string {
	c.t.Helper()
	list, err := c.pods().List(c.ctx, metav1.ListOptions{LabelSelector: "app=" + app})
	if err != nil {
		c.t.Fatal(err)
	}
	var all []string
	for _, p := range list.Items {
		if p.DeletionTimestamp == nil {
			all = append(all, p.Spec.Containers[0].Env[0].Value)
		}
	}
	slices.Sort(all)
	return all
}

func TestRolloutUndoScaleDelete(t *testing.T) {
	c := shared(t)
	settled := func(want ...string) {
		t.Helper()
		c.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
		if got := c.versions("web"); !slices.Equal(got, want) {
			t.Errorf("versions %v run, want %v", got, want)
		}
	}
	c.apply(deployment("web", "1", 2))
	settled("1", "1")
	c.kubectl("annotate", "deployment/web", "kubernetes.io/change-cause=second")
	c.kubectl("set", "env", "deployment/web", "VERSION=2")
	settled("2", "2")
	history := c.kubectl("rollout", "history", "deployment/web")
	c.mustContain(history, "REVISION", "1", "2", "second")
	c.kubectl("rollout", "undo", "deployment/web")
	settled("1", "1")
	c.mustContain(c.kubectl("rollout", "history", "deployment/web"), "3")

	c.kubectl("scale", "deployment/web", "--replicas=4")
	settled("1", "1", "1", "1")
	c.kubectl("scale", "deployment/web", "--replicas=1")
	settled("1")

	c.kubectl("rollout", "pause", "deployment/web")
	c.kubectl("set", "env", "deployment/web", "VERSION=3")
	c.awaitDeployment("web", func(d *appsv1.Deployment) bool {
		return d.Status.ObservedGeneration == d.Generation && d.Status.UpdatedReplicas == 0
	})
	c.kubectl("rollout", "resume", "deployment/web")
	settled("3")
	c.kubectl("rollout", "restart", "deployment/web")
	settled("3")

	c.kubectl("delete", "deployment", "web")
	c.awaitPod("", nil)
	if out := c.kubectl("get", "deployments,replicasets"); !strings.Contains(out, "No resources found") {
		t.Errorf("left: %s", out)
	}
}

func TestRolloutThatCannotProgress(t *testing.T) {
	c := shared(t)
	c.apply(deployment("web", "1", 1))
	c.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
	c.kubectl("patch", "deployment", "web", "-p", `{"spec":{"progressDeadlineSeconds":3,"template":{"spec":{"containers":[{"name":"main","command":["false"]}]}}}}`)
	out, err := c.try("rollout", "status", "deployment/web", "--timeout=60s")
	if err == nil {
		t.Errorf("a broken rollout succeeded: %s", out)
	}
	c.mustContain(out, `error: deployment "web" exceeded its progress deadline`)
	c.awaitDeployment("web", func(d *appsv1.Deployment) bool {
		return d.Status.AvailableReplicas == 1 && slices.ContainsFunc(d.Status.Conditions, func(s appsv1.DeploymentCondition) bool {
			return s.Type == appsv1.DeploymentProgressing && s.Status == corev1.ConditionFalse && s.Reason == "ProgressDeadlineExceeded"
		})
	})
}

func (c *cluster) awaitDeployment(name string, condition func(*appsv1.Deployment) bool) *appsv1.Deployment {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, patience)
	defer cancel()
	d, err := await.Object(ctx, c.client.AppsV1().Deployments(c.namespace), nil, name, condition)
	if err != nil {
		c.t.Fatal(err)
	}
	return d
}
