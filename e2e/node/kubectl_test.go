package node

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/e2e/box"
)

func TestApply(t *testing.T) {
	c := shared(t)
	manifest := deployment("web", "1", 1)
	if out, err := c.tryWith(strings.NewReader(manifest), "apply", "--dry-run=server", "-f", "-"); err != nil || !strings.Contains(out, "created (server dry run)") {
		t.Errorf("dry run: %v %s", err, out)
	}
	if out, err := c.try("get", "deployment", "web"); err == nil {
		t.Errorf("a dry run left %s", out)
	}
	c.mustContain(c.apply(manifest), "deployment.apps/web created")
	c.mustContain(c.apply(manifest), "deployment.apps/web unchanged")
	if out, err := c.tryWith(strings.NewReader(manifest), "diff", "-f", "-"); err != nil {
		t.Errorf("diff of what is applied: %v %s", err, out)
	}
	changed := strings.Replace(manifest, "replicas: 1", "replicas: 2", 1)
	if out, err := c.tryWith(strings.NewReader(changed), "diff", "-f", "-"); err == nil || !strings.Contains(out, "+  replicas: 2") {
		t.Errorf("diff of a change: %v %s", err, out)
	}
	c.mustContain(c.apply(changed), "deployment.apps/web configured")

	out, err := c.tryWith(strings.NewReader(changed), "apply", "--server-side", "--field-manager=other", "-f", "-")
	if err == nil {
		out += c.kubectl("get", "deployment", "web", "-o", "yaml", "--show-managed-fields")
		c.mustContain(out, "serverside-applied", "manager: other", "operation: Apply")
	} else {
		t.Errorf("server-side apply: %s", out)
	}
	wrong := strings.Replace(manifest, "replicas: 1", "replicas: many", 1)
	if out, err := c.tryWith(strings.NewReader(wrong), "apply", "-f", "-"); err == nil {
		t.Errorf("applied a wrong type: %s", out)
	}
	unknown := strings.Replace(manifest, "replicas: 1", "replicos: 1", 1)
	out, err = c.tryWith(strings.NewReader(unknown), "apply", "-f", "-")
	if err == nil {
		t.Error("applied an unknown field")
	}
	c.mustContain(out, `unknown field "spec.replicos"`)
}

func TestPrinting(t *testing.T) {
	c := shared(t)
	c.startPod(pod("web", ""))
	c.configMap("cm", map[string]string{"a": "b"})
	c.secret("sec", map[string]string{"a": "b"})
	c.kubectl("expose", "pod", "web", "--port=80", "--target-port=8080")
	c.apply(deployment("dep", "1", 1))
	c.kubectl("rollout", "status", "deployment/dep")

	c.mustContain(c.kubectl("get", "pod", "web"), "NAME", "READY", "STATUS", "RESTARTS", "AGE", "1/1", "Running")
	c.mustContain(c.kubectl("get", "pods", "-o", "wide"), "IP", "NODE", "NOMINATED NODE", "10.42.0.")
	c.mustContain(c.kubectl("get", "pod", "web", "-o", "yaml"), "apiVersion: v1\nkind: Pod\n", "phase: Running")
	c.mustContain(c.kubectl("get", "pod", "web", "-o", "json"), `"kind": "Pod"`)
	c.mustContain(c.kubectl("get", "pods", "-o", "custom-columns=N:.metadata.name,I:.spec.containers[*].image"), "web", box.Image)
	if got := c.kubectl("get", "pod", "web", "-o", "jsonpath={.status.phase}"); got != "Running" {
		t.Errorf("jsonpath: %q", got)
	}
	if got := c.kubectl("get", "pods", "-l", "app=web", "-o", "name"); got != "pod/web\n" {
		t.Errorf("names: %q", got)
	}
	if got := c.kubectl("get", "pods", "--field-selector=status.phase!=Running"); !strings.Contains(got, "No resources found") {
		t.Errorf("field selector: %q", got)
	}
	c.mustContain(c.kubectl("get", "all"), "pod/web", "service/web", "deployment.apps/dep", "replicaset.apps/dep-")
	c.mustContain(c.kubectl("explain", "pod.spec.containers.livenessProbe"), "KIND:       Pod", "FIELD: livenessProbe <Probe>", "failureThreshold")
	c.mustContain(c.kubectl("api-resources"), "deployments", "deploy", "apps/v1", "configmaps", "cm")
	c.mustContain(c.kubectl("version"), "Server Version: v1.36")
	c.mustContain(c.kubectl("auth", "can-i", "create", "pods"), "yes")
	c.mustContain(c.kubectl("auth", "whoami"), "system:masters")
	c.mustContain(c.kubectl("cluster-info"), "Kubernetes control plane", "is running at")

	for object, parts := range map[string][]string{
		"pod/web":                  {"Name:             web", "Container ID:", "PodScheduled                True", "Events:", "Started", "QoS Class:"},
		"service/web":              {"Type:                     ClusterIP", "Endpoints:                10.42.0."},
		"deployment/dep":           {"StrategyType:           RollingUpdate", "NewReplicaSet:   dep-", "ScalingReplicaSet"},
		"replicaset":               {"Controlled By:  Deployment/dep", "SuccessfulCreate"},
		"configmap/cm":             {"Data\n====", "a:\n----\nb"},
		"secret/sec":               {"Type:  Opaque", "a:  1 bytes"},
		"serviceaccount/default":   {"Image pull secrets:"},
		"namespace/" + c.namespace: {"Status:       Active"},
		"node":                     {"Capacity:", "Allocatable:", "Non-terminated Pods:", "Kubelet Version:", "Ready            True", "Lease:"},
		"endpointslice":            {"AddressType:  IPv4", "Ready:"},
		"endpoints/web":            {"Addresses:          10.42.0."},
		"priorityclass":            {"system-node-critical", "2000001000"},
		"-n kube-node-lease lease": {"Holder Identity:"},
	} {
		t.Run(strings.Map(func(r rune) rune {
			if r == '/' || r == ' ' {
				return '-'
			}
			return r
		}, object), func(t *testing.T) {
			out, err := c.try(append([]string{"describe"}, strings.Fields(object)...)...)
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			for _, part := range parts {
				if !strings.Contains(out, part) {
					t.Errorf("no %q in:\n%s", part, out)
				}
			}
		})
	}
}

func TestSmallCommands(t *testing.T) {
	c := shared(t)
	c.kubectl("run", "web", "--image="+box.Image, "--labels=a=1")
	c.kubectl("wait", "--for=condition=Ready", "pod/web", "--timeout=60s")
	c.kubectl("wait", "--for=jsonpath={.status.phase}=Running", "pod/web", "--timeout=60s")
	c.kubectl("label", "pod", "web", "b=2", "a-")
	c.kubectl("annotate", "pod", "web", "note=x")
	c.mustContain(c.kubectl("get", "pod", "web", "--show-labels", "-L", "b"), "b=2")
	out, err := c.try("wait", "--for=condition=Odd", "pod/web", "--timeout=1s")
	if err == nil {
		t.Error("waited for nothing")
	}
	c.mustContain(out, "timed out waiting for the condition")
	if parts := strings.Split(strings.TrimSpace(c.kubectl("create", "token", "default")), "."); len(parts) != 3 {
		t.Errorf("a token of %d parts", len(parts))
	}
	watching := c.follow("get", "pods", "--watch", "--output-watch-events")
	watching.until("web")
	c.kubectl("delete", "pod", "web", "--wait=false", "--grace-period=1")
	watching.until("DELETED")
	c.kubectl("wait", "--for=delete", "pod/web", "--timeout=60s")
	c.kubectl("create", "configmap", "one", "--from-literal=a=b")
	c.kubectl("delete", "configmaps", "one")
	if out, err := c.try("create", "deployment", "Bad_Name", "--image=x"); err == nil {
		t.Errorf("created %s", out)
	}
}

func TestNamespaceDeletion(t *testing.T) {
	c := shared(t)
	c.kubectl("create", "namespace", "doomed")
	for _, args := range [][]string{
		{"create", "deployment", "web", "--image=" + box.Image, "--replicas=2"}, {"create", "configmap", "cm"},
	} {
		c.kubectl(append(args, "-n", "doomed")...)
	}
	c.kubectl("wait", "--for=condition=Available", "deployment/web", "-n", "doomed", "--timeout=60s")
	c.kubectl("delete", "namespace", "doomed", "--timeout=60s")
	if out := c.kubectl("get", "pods,deployments,configmaps", "-n", "doomed"); !strings.Contains(out, "No resources found") {
		t.Errorf("left %s", out)
	}
}

// Cordon, drain and taints need a node for themselves.
func TestDrainCordonTaint(t *testing.T) {
	t.Parallel()
	c := ownCluster(t)
	nodes, err := c.client.CoreV1().Nodes().List(c.ctx, metav1.ListOptions{})
	if err != nil || len(nodes.Items) != 1 {
		t.Fatalf("%d nodes, %v", len(nodes.Items), err)
	}
	node := nodes.Items[0].Name
	c.apply(deployment("web", "1", 1))
	c.kubectl("rollout", "status", "deployment/web")

	c.kubectl("cordon", node)
	c.mustContain(c.kubectl("get", "nodes"), "Ready,SchedulingDisabled")
	c.create(pod("waits", "sleep 100"))
	c.awaitPod("waits", unschedulable)
	c.awaitEvent("waits", "FailedScheduling", "0/1 nodes are available: 1 node(s) were unschedulable")
	c.kubectl("uncordon", node)
	c.awaitPod("waits", podReady)

	c.startPod(pod("bare", ""))
	out, err := c.try("drain", node, "--timeout=20s")
	if err == nil {
		t.Error("drained a Pod that nobody brings back")
	}
	c.mustContain(out, "cannot delete")
	begin := time.Now()
	c.kubectl("drain", node, "--force", "--delete-emptydir-data", "--ignore-daemonsets", "--timeout=40s")
	t.Logf("drained in %v", time.Since(begin))
	if p := c.awaitPod("", unschedulable); !strings.HasPrefix(p.Name, "web-") {
		t.Errorf("%s waits for a node", p.Name)
	}
	c.kubectl("uncordon", node)
	c.kubectl("rollout", "status", "deployment/web", "--timeout=60s")

	c.kubectl("taint", "node", node, "special=yes:NoSchedule")
	c.create(pod("plain", "sleep 100"))
	c.awaitPod("plain", unschedulable)
	c.awaitEvent("plain", "FailedScheduling", "1 node(s) had untolerated taint(s)")
	tolerant := pod("tolerant", "sleep 100")
	tolerant.Spec.Tolerations = []corev1.Toleration{{Key: "special", Operator: corev1.TolerationOpExists}}
	c.startPod(tolerant)
	c.kubectl("taint", "node", node, "special:NoExecute", "--overwrite")
	c.kubectl("taint", "node", node, "evil=yes:NoExecute")
	c.awaitPod("tolerant", func(p *corev1.Pod) bool { return p.DeletionTimestamp != nil })
	c.kubectl("taint", "node", node, "special-", "evil-")
	c.awaitPod("plain", podReady)

	big := pod("big", "sleep 100")
	big.Spec.NodeSelector = map[string]string{"disk": "ssd"}
	c.create(big)
	c.awaitEvent("big", "FailedScheduling", "1 node(s) didn't match Pod's node affinity/selector")
	c.kubectl("label", "node", node, "disk=ssd")
	c.awaitPod("big", podReady)
}

func unschedulable(p *corev1.Pod) bool {
	for _, s := range p.Status.Conditions {
		if s.Type == corev1.PodScheduled {
			return s.Status == corev1.ConditionFalse && s.Reason == corev1.PodReasonUnschedulable
		}
	}
	return false
}
