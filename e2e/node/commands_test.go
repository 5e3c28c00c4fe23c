package node

import (
	"errors"
	"os/exec"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/e2e/box"
)

// Clients that cannot do WebSockets speak SPDY.
func TestStreamsOverSPDY(t *testing.T) {
	c := shared(t)
	c.startPod(pod("web", ""))
	c.environment = []string{"KUBECTL_REMOTE_COMMAND_WEBSOCKETS=false", "KUBECTL_PORT_FORWARD_WEBSOCKETS=false"}
	out, err := c.tryWith(strings.NewReader("a\nb\n"), "exec", "-i", "web", "--", "sh", "-c", "wc -l; echo err >&2; exit 5")
	if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.ExitCode() != 5 {
		t.Errorf("exit: %v", err)
	}
	c.mustContain(out, "2\n", "err\n", "command terminated with exit code 5")
	term := c.terminal("exec", "-it", "web", "--", "sh")
	c.enter(term, "stty size\n")
	c.see(term, "41 101")
	c.enter(term, "exit 4\n")
	if exit := new(exec.ExitError); !errors.As(term.cmd.Wait(), &exit) || exit.ExitCode() != 4 {
		t.Errorf("exit code %d, want 4", exit.ExitCode())
	}
	c.forwards("pod/web", ":8080")
	if log := c.logs("web"); strings.Contains(log, "panic") {
		t.Error(log)
	}
}

func TestMoreCommands(t *testing.T) {
	c := shared(t)
	c.apply(deployment("web", "1", 1))
	c.kubectl("rollout", "status", "deployment/web")
	c.mustContain(c.kubectl("logs", "deployment/web", "--all-containers"), "serving")
	c.mustContain(c.kubectl("exec", "deployment/web", "--", "hostname"), "web-")
	c.mustContain(c.kubectl("rollout", "history", "deployment/web", "--revision=1"), "VERSION", box.Image)
	c.mustContain(c.kubectl("events", "--for", "deployment/web"), "ScalingReplicaSet")
	c.kubectl("patch", "deployment", "web", "--type=json", "-p", `[{"op":"replace","path":"/spec/replicas","value":2}]`)
	c.kubectl("patch", "deployment", "web", "--type=merge", "-p", `{"spec":{"template":{"metadata":{"annotations":{"a":"b"}}}}}`)
	c.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
	out, err := c.try("scale", "deployment/web", "--current-replicas=7", "--replicas=3")
	if err == nil {
		t.Errorf("scaled: %s", out)
	}
	c.mustContain(out, "Expected replicas to be 7, was 2")
	out, _ = c.try("create", "deployment", "web", "--image=x")
	c.mustContain(out, `deployments.apps "web" already exists`)
	out, _ = c.try("get", "pod", "absent")
	c.mustContain(out, `Error from server (NotFound): pods "absent" not found`)
	out, _ = c.try("patch", "deployment", "web", "-p", `{"spec":{"selector":{"matchLabels":{"app":"other"}}}}`)
	c.mustContain(out, "field is immutable")
	c.mustContain(c.kubectl("delete", "deployment", "web", "--dry-run=server"), "(server dry run)")
	c.mustContain(c.kubectl("get", "--raw", "/readyz?verbose"), "readyz check passed")
	c.mustContain(c.kubectl("get", "--raw", "/api/v1/namespaces/"+c.namespace+"/pods?limit=1"), `"continue":"`)
	c.kubectl("delete", "deployment", "web", "--cascade=orphan")
	c.mustContain(c.kubectl("get", "replicasets"), "web-")
	c.kubectl("delete", "all", "--all", "--timeout=60s")
	// What the ReplicaSet made between the deletion of Pods and its own goes
	// with it, but after it.
	c.kubectl("wait", "--for=delete", "pod", "--all", "--timeout=60s")
	if out := c.kubectl("get", "all"); !strings.Contains(out, "No resources found") {
		t.Errorf("left %s", out)
	}
}

// A Pod's token dies with it, and gives no way into the node.
func TestTokensReach(t *testing.T) {
	c := shared(t)
	c.startPod(pod("holder", ""))
	token := strings.TrimSpace(c.exec("holder", "cat /var/run/secrets/kubernetes.io/serviceaccount/token"))
	who := func() (string, error) {
		return c.run(nil, skiff, "kubectl", "--kubeconfig=/dev/null", "--server="+c.config.Host,
			"--insecure-skip-tls-verify", "--token="+token, "auth", "whoami")
	}
	out, err := who()
	if err != nil {
		t.Fatal(out)
	}
	c.mustContain(out, "system:serviceaccount:"+c.namespace+":default", "authentication.kubernetes.io/pod-name", "holder")
	for _, header := range []string{"", "Authorization: Bearer " + token} {
		code, err := c.run(nil, "curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}", "-H", header, "https://"+nodeAddress+":10250/pods")
		if err != nil || code != "401" && code != "403" {
			t.Errorf("the node answers %s to %q: %v", code, header, err)
		}
	}
	if err := c.pods().Delete(c.ctx, "holder", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.awaitPod("holder", nil)
	out, err = who()
	if err == nil {
		t.Errorf("the token of a Pod that is gone is good: %s", out)
	}
	c.mustContain(out, "Unauthorized")
}
