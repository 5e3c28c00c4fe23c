package node

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skiff-sh/skiff/internal/netns"
)

func TestDNS(t *testing.T) {
	c := shared(t)
	named := pod("named", "")
	named.Spec.Hostname, named.Spec.Subdomain = "first", "peers"
	named.Labels["group"] = "peers"
	other := pod("other", "")
	other.Labels["group"] = "peers"
	c.create(named)
	c.create(other)
	c.kubectl("expose", "pod", "other", "--name=web", "--port=80", "--target-port=8080")
	c.apply(`{apiVersion: v1, kind: Service, metadata: {name: peers}, spec: {clusterIP: None, selector: {group: peers}, ports: [{name: http, port: 8080}]}}`)
	ips := []string{c.awaitPod("named", podReady).Status.PodIP, c.awaitPod("other", podReady).Status.PodIP}
	web := c.service("web").Spec.ClusterIP
	ns := c.namespace
	c.startPod(pod("client", "trap exit TERM; while true; do sleep 0.1; done"))
	for name, want := range map[string]string{
		"web": web, "web." + ns: web, "web." + ns + ".svc": web, "web." + ns + ".svc.cluster.local": web,
		"web." + ns + ".svc.cluster.local.": web, "kubernetes.default": "10.43.0.1",
		"first.peers": ips[0], "first.peers." + ns + ".svc.cluster.local": ips[0],
	} {
		if got := c.lookup("client", name); got != want {
			t.Errorf("%s is %q, want %s", name, got, want)
		}
	}
	for _, ip := range ips {
		c.mustContain(c.lookup("client", "peers"), ip)
	}
	for _, name := range []string{"nope", "web.nope", "nope." + ns + ".svc.cluster.local."} {
		c.mustContain(c.lookup("client", name), "no such host")
	}
	c.mustContain(c.exec("client", "cat /etc/resolv.conf"),
		fmt.Sprintf("search %s.svc.cluster.local svc.cluster.local cluster.local", ns), "nameserver 10.43.0.10", "ndots:5")
	if got := strings.TrimSpace(c.exec("client", "box srv _http._tcp.peers")); got != "8080 first.peers."+ns+".svc.cluster.local." && !strings.Contains(got, "\n") {
		t.Errorf("SRV: %q", got)
	}
	if got := strings.TrimSpace(c.exec("client", "box reverse "+web)); got != "web."+ns+".svc.cluster.local." {
		t.Errorf("PTR of %s: %q", web, got)
	}

	t.Log("all other names are the machine's resolver's")
	if got := c.lookup("client", "far.example.org"); got != farAddress {
		t.Errorf("a name outside is %q", got)
	}
	c.mustContain(c.lookup("client", "absent.example.org"), "no such host")
}

func (c *cluster) lookup(pod, name string) string {
	c.t.Helper()
	return strings.TrimSpace(c.exec(pod, "box lookup "+name+" || true"))
}

func TestServicesFromPodAndMachine(t *testing.T) {
	c := shared(t)
	c.apply(deployment("web", "1", 2))
	c.apply(`
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports:
  - {name: http, port: 80, targetPort: 8080}
  - {name: echo, port: 81, targetPort: 8081, protocol: UDP}`)
	c.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
	client := c.startPod(pod("client", "trap exit TERM; while true; do sleep 0.1; done"))
	s := c.service("web")
	ip, port, udpPort := s.Spec.ClusterIP, s.Spec.Ports[0].NodePort, s.Spec.Ports[1].NodePort
	c.awaitPage("http://" + ip)

	t.Log("a Pod's address is seen as it is; that of the machine too")
	if body := c.exec("client", "box get http://web"); !strings.HasSuffix(body, " "+client.Status.PodIP) {
		t.Errorf("answer %q to %s", body, client.Status.PodIP)
	}
	for _, from := range []string{
		fmt.Sprintf("box get http://%s", ip), fmt.Sprintf("box get http://%s:%d", nodeAddress, port),
		fmt.Sprintf("box udp %s:81 hello", ip), fmt.Sprintf("box udp %s:%d hello", nodeAddress, udpPort),
	} {
		c.mustContain(c.exec("client", from), "web-")
	}

	t.Log("from the machine")
	c.mustContain(c.awaitPage(fmt.Sprintf("http://%s:%d", nodeAddress, port)), "web-")
	for _, address := range []string{ip + ":81", fmt.Sprintf("%s:%d", nodeAddress, udpPort)} {
		if answer, err := askUDP("", address); err != nil || !strings.HasPrefix(answer, "web-") {
			t.Errorf("%s: %q %v", address, answer, err)
		}
	}

	t.Log("from the neighbour")
	body, err := page(outsideClient(), fmt.Sprintf("http://%s:%d", nodeAddress, port))
	if err != nil || !strings.HasPrefix(body, "web-") {
		t.Errorf("node port: %q %v", body, err)
	}
	if answer, err := askUDP(outside(), fmt.Sprintf("%s:%d", nodeAddress, udpPort)); err != nil || !strings.HasPrefix(answer, "web-") {
		t.Errorf("node port, UDP: %q %v", answer, err)
	}

	t.Log("no endpoints: refused at once, everywhere")
	c.kubectl("scale", "deployment/web", "--replicas=0")
	c.awaitRefusal(ip + ":80")
	begin := time.Now()
	out := c.exec("client", fmt.Sprintf("box get http://%s; box get http://%s:%d; true", ip, nodeAddress, port))
	if strings.Count(out, "connection refused") != 2 || time.Since(begin) > 3*time.Second {
		t.Errorf("from a Pod: %s after %v", out, time.Since(begin))
	}
	if _, err := page(outsideClient(), fmt.Sprintf("http://%s:%d", nodeAddress, port)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("from the neighbour: %v", err)
	}
}

// awaitRefusal waits until connections are refused.
func (c *cluster) awaitRefusal(address string) {
	c.t.Helper()
	c.retry(func() error {
		conn, err := c.dial(c.ctx, "tcp", address)
		if err == nil {
			conn.Close()
			return errors.New("still answers")
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return err
		}
		return nil
	})
}

// askUDP asks a box server, from the namespace pinned there.
func askUDP(pin, address string) (string, error) {
	dial := func() (net.Conn, error) { return net.Dial("udp4", address) }
	var conn net.Conn
	var err error
	if pin == "" {
		conn, err = dial()
	} else {
		err = netns.Do(pin, func() (err error) {
			conn, err = dial()
			return err
		})
	}
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := conn.Write([]byte("hello")); err != nil {
		return "", err
	}
	buf := make([]byte, 1500)
	n, err := conn.Read(buf)
	return string(buf[:n]), err
}

func TestHairpin(t *testing.T) {
	c := shared(t)
	p := c.startPod(pod("web", ""))
	c.kubectl("expose", "pod", "web", "--name=self", "--port=80", "--target-port=8080")
	c.awaitPage("http://" + c.service("self").Spec.ClusterIP)
	c.mustContain(c.exec("web", "box get http://self"), "web ")
	c.mustContain(c.exec("web", "box get http://"+p.Status.PodIP+":8080"), "web "+p.Status.PodIP)
}

func TestUnusedAddressesGoNowhere(t *testing.T) {
	c := shared(t)
	c.startPod(pod("client", "trap exit TERM; while true; do sleep 0.1; done"))
	for address, want := range map[string]error{
		"10.42.200.7:80": syscall.EHOSTUNREACH, "10.43.200.7:80": syscall.ECONNREFUSED,
	} {
		conn, err := net.DialTimeout("tcp", address, 5*time.Second)
		if err == nil {
			conn.Close()
		}
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", address, err, want)
		}
		out := c.exec("client", "box get http://"+address+" || true")
		if !strings.Contains(out, "no route to host") && !strings.Contains(out, "refused") && !strings.Contains(out, "unreachable") {
			t.Errorf("%s from a Pod: %s", address, out)
		}
	}
}

func TestOutsideSeesTheMachine(t *testing.T) {
	c := shared(t)
	var listener net.Listener
	err := netns.Do(outside(), func() (err error) {
		listener, err = net.Listen("tcp4", farAddress+":0")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "seen "+r.RemoteAddr)
	})}
	ended := make(chan error)
	go func() { ended <- server.Serve(listener) }()
	defer func() {
		server.Close()
		<-ended
	}()
	_, log := c.finish(once("client", "box get http://"+listener.Addr().String()))
	c.mustContain(log, "seen "+nodeAddress+":")
}

func TestHostNetwork(t *testing.T) {
	c := shared(t)
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	p := pod("host", "hostname; ip addr show up0; exec box serve")
	p.Spec.HostNetwork = true
	p = c.startPod(p)
	if p.Status.PodIP != nodeAddress {
		t.Errorf("Pod address %s, want the machine's", p.Status.PodIP)
	}
	c.mustContain(c.awaitPage("http://"+nodeAddress+":8080"), name)
	c.mustContain(c.logs("host"), nodeAddress+"/24", name)
}

func TestNamesInPod(t *testing.T) {
	c := shared(t)
	p := once("names", "hostname; cat /etc/hosts; cat /etc/resolv.conf")
	p.Spec.Hostname = "chosen"
	p.Spec.HostAliases = []corev1.HostAlias{{IP: "192.0.2.99", Hostnames: []string{"alias", "other"}}}
	p.Spec.DNSPolicy = corev1.DNSNone
	p.Spec.DNSConfig = &corev1.PodDNSConfig{
		Nameservers: []string{"192.0.2.53"}, Searches: []string{"example.org"},
		Options: []corev1.PodDNSConfigOption{{Name: "ndots", Value: ptr("2")}},
	}
	p, log := c.finish(p)
	c.mustContain(log, "chosen\n", p.Status.PodIP+"\tchosen", "192.0.2.99\talias\tother",
		"nameserver 192.0.2.53", "search example.org", "options ndots:2")
}
