package node

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// A host port is reached from everywhere but by those who may not, belongs to one
// Pod at a time, and is nobody's when the Pod has gone.
func TestHostPort(t *testing.T) {
	c := shared(t)
	const port = 18080
	web := pod("web", "")
	web.Spec.Containers[0].Ports = []corev1.ContainerPort{
		{ContainerPort: 8080, HostPort: port}, {ContainerPort: 8081, HostPort: port, Protocol: corev1.ProtocolUDP},
	}
	c.startPod(web)
	local := pod("local", "")
	local.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 8080, HostPort: port + 1, HostIP: "127.0.0.1"}}
	c.startPod(local)
	client := c.startPod(pod("client", "trap exit TERM; while true; do sleep 0.1; done"))

	at := fmt.Sprintf("%s:%d", nodeAddress, port)
	c.mustContain(c.exec("client", "box get http://"+at), "web "+client.Status.PodIP)
	c.mustContain(c.exec("client", "box udp "+at+" hello"), "web")
	for from, url := range map[string]string{"web": "http://" + at, "local": fmt.Sprintf("http://127.0.0.1:%d", port+1)} {
		if body := c.awaitPage(url); !strings.HasPrefix(body, from+" ") {
			t.Errorf("from the machine, %s: %q", url, body)
		}
	}
	c.mustContain(c.awaitPage(fmt.Sprintf("http://127.0.0.1:%d", port)), "web ")
	if answer, err := askUDP("", fmt.Sprintf("127.0.0.1:%d", port)); err != nil || !strings.HasPrefix(answer, "web") {
		t.Errorf("from the loopback, UDP: %q, %v", answer, err)
	}
	if body, err := page(outsideClient(), "http://"+at); err != nil || !strings.HasPrefix(body, "web ") {
		t.Errorf("from the neighbour: %q, %v", body, err)
	}
	if _, err := page(outsideClient(), fmt.Sprintf("http://%s:%d", nodeAddress, port+1)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("the neighbour reaches what is the loopback's: %v", err)
	}

	t.Log("the port is taken as long as the Pod is there")
	second := pod("second", "")
	second.Spec.Containers[0].Ports = web.Spec.Containers[0].Ports[:1]
	c.create(second)
	c.awaitPod("second", func(p *corev1.Pod) bool {
		return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == corev1.PodScheduled && strings.Contains(c.Message, "1 node(s) didn't have free ports for the requested pod ports")
		})
	})
	c.kubectl("delete", "pod", "web")
	c.awaitPod("second", podReady)
	c.mustContain(c.awaitPage("http://"+at), "second ")
	c.kubectl("delete", "pod", "second")
	c.awaitRefusal(at)
}
