package cluster

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/skiff-sh/skiff/e2e/cluster/lab"
)

// allowed is everything that a node's certificate may ask for on objects that
// are not its own, by resource. All the rest is forbidden: whatever kind comes,
// the test tries it, and what it finds allowed has to be added here by someone
// who knows why.
//
//   - Services, EndpointSlices and Nodes are what a node programs its network from.
//   - Reviews tell who asks and what that may do; they change nothing.
//   - A node says what it does in Events, which it may not read.
//   - It asks for its certificates; who gets one is another matter, and what was
//     asked and signed is public.
const allowed = `
authentication.k8s.io/selfsubjectreviews: create
authentication.k8s.io/tokenreviews: create
authorization.k8s.io/localsubjectaccessreviews: create
authorization.k8s.io/selfsubjectaccessreviews: create
authorization.k8s.io/selfsubjectrulesreviews: create
authorization.k8s.io/subjectaccessreviews: create
certificates.k8s.io/certificatesigningrequests: create get list watch
discovery.k8s.io/endpointslices: get list watch
endpoints: get list watch
events.k8s.io/events: create patch update
events: create patch update
namespaces: get list watch
node.k8s.io/runtimeclasses: get list watch
nodes: get list watch
services: get list watch
`

// intruder is someone with a node's certificate, who sits on that node.
type intruder struct {
	server string // https://HOST:PORT
	client *http.Client
}

// steal makes an intruder of what an agent keeps.
func steal(n *lab.Node, server string) (*intruder, error) {
	dir := filepath.Join(n.Host.DataDir, "agent", "tls")
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "client.crt"), filepath.Join(dir, "client.key"))
	if err != nil {
		return nil, err
	}
	authority, err := os.ReadFile(filepath.Join(dir, "server-ca.crt"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	return &intruder{server: server, client: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return n.Dial(ctx, network, address)
		},
		TLSClientConfig: &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots},
	}}}, nil
}

// ask makes a request and returns the answer's status and text. Headers are
// "Name: value".
func (i *intruder) ask(method, path string, body []byte, headers ...string) (int, string, error) {
	request, err := http.NewRequest(method, i.server+path, bytes.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	request.Header.Set("Content-Type", "application/json")
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		request.Header.Set(name, value)
	}
	response, err := i.client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	return response.StatusCode, string(text), err
}

// Every verb on every kind that is served, with a node's own certificate, for
// what belongs to another node or to nobody.
func TestStolenCertificateOnEveryKind(t *testing.T) {
	s := shared(t)
	s.preparePrey()
	near := s.node("near")
	thief, err := steal(near, s.url())
	if err != nil {
		t.Fatal(err)
	}
	_, lists, err := s.client.Discovery().ServerGroupsAndResources()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string][]string{}
	tried := 0
	for _, list := range lists {
		version, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			t.Fatal(err)
		}
		for _, resource := range list.APIResources {
			for _, a := range s.attempts(version, resource) {
				status, text, err := thief.ask(a.method, a.path, a.body, a.headers...)
				if err != nil {
					t.Fatalf("%s %s: %v", a.method, a.path, err)
				}
				tried++
				switch status {
				case http.StatusForbidden:
				case http.StatusMethodNotAllowed: // nobody may, it does not exist
				default:
					name := strings.TrimPrefix(version.Group+"/"+resource.Name, "/")
					if !slices.Contains(found[name], a.verb) {
						found[name] = append(found[name], a.verb)
						t.Logf("%s %s: %d %.200s", a.method, a.path, status, text)
					}
				}
			}
		}
	}
	t.Logf("%d requests", tried)
	var lines []string
	for name, verbs := range found {
		slices.Sort(verbs)
		lines = append(lines, name+": "+strings.Join(verbs, " "))
	}
	slices.Sort(lines)
	if got := "\n" + strings.Join(lines, "\n") + "\n"; got != allowed {
		t.Errorf("allowed:%s\nwant:%s", got, allowed)
	}
}

// preparePrey makes what the thief is after: a Pod on another node, with a
// Secret, a ConfigMap and a ServiceAccount, all named "theirs", and the same
// for itself, named "ours".
func (s *session) preparePrey() {
	s.t.Helper()
	for name, node := range map[string]string{"theirs": "far", "ours": "near"} {
		s.kubectl("create", "secret", "generic", name, "--from-literal=key=precious")
		s.kubectl("create", "configmap", name, "--from-literal=key=value")
		s.kubectl("create", "serviceaccount", name)
		p := pod(name, node)
		p.Spec.ServiceAccountName = name
		p.Spec.Volumes = []corev1.Volume{
			{Name: "secret", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: name}}},
		}
		p.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{
			{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: name}}},
		}
		s.create(p)
	}
	s.awaitPod("theirs", podReady)
	s.awaitPod("ours", podReady)
}

// attempt is a request for what is not the thief's.
type attempt struct {
	verb, method, path string
	body               []byte
	headers            []string
}

// attempts are all verbs on a resource, whether it offers them or not.
func (s *session) attempts(version schema.GroupVersion, resource metav1.APIResource) []attempt {
	kind := schema.GroupVersionKind{Group: resource.Group, Version: resource.Version, Kind: resource.Kind}
	if kind.Version == "" {
		kind.Group, kind.Version = version.Group, version.Version
	}
	parent, sub, _ := strings.Cut(resource.Name, "/")
	root := "/apis/" + version.String()
	if version.Group == "" {
		root = "/api/v1"
	}
	name, namespace := "theirs", s.namespace
	switch parent {
	case "nodes":
		name = "far"
	case "leases":
		name, namespace = "far", corev1.NamespaceNodeLease
	case "namespaces":
		name = s.namespace
	}
	everywhere := root + "/" + parent
	all := everywhere
	if resource.Namespaced {
		all = root + "/namespaces/" + namespace + "/" + parent
	}
	one := all + "/" + name
	object := func(name string) []byte {
		body, _ := json.Marshal(map[string]any{
			"apiVersion": kind.GroupVersion().String(), "kind": kind.Kind, "metadata": map[string]any{"name": name},
		}) // strings cannot fail
		return body
	}
	patch := attempt{"patch", "PATCH", one, []byte(`{"metadata":{"labels":{"stolen":"yes"}}}`), []string{"Content-Type: application/merge-patch+json"}}
	if sub != "" {
		one += "/" + sub
		patch.path = one
		return []attempt{
			{verb: "get", method: "GET", path: one}, {verb: "create", method: "POST", path: one, body: object(name)},
			{verb: "update", method: "PUT", path: one, body: object(name)}, patch, {verb: "delete", method: "DELETE", path: one},
		}
	}
	return []attempt{
		{verb: "get", method: "GET", path: one},
		{verb: "list", method: "GET", path: all}, {verb: "list", method: "GET", path: everywhere},
		{verb: "watch", method: "GET", path: all + "?watch=1&timeoutSeconds=1"},
		{verb: "watch", method: "GET", path: everywhere + "?watch=1&timeoutSeconds=1"},
		{verb: "create", method: "POST", path: all, body: object("stolen")},
		{verb: "update", method: "PUT", path: one, body: object(name)}, patch,
		{verb: "delete", method: "DELETE", path: one}, {verb: "deletecollection", method: "DELETE", path: all},
	}
}

// What a node may do with its own, it may not do with a neighbour's, nor may it
// make more of its own than it is.
func TestStolenCertificateGetsNoFurther(t *testing.T) {
	s := shared(t)
	s.preparePrey()
	thief, err := steal(s.node("near"), s.url())
	if err != nil {
		t.Fatal(err)
	}
	s.kubectl("taint", "node", "near", "example.org/watched=yes:PreferNoSchedule")
	ours, theirs := s.awaitPod("ours", podReady), s.awaitPod("theirs", podReady)
	ns := "/api/v1/namespaces/" + s.namespace
	const merge = "Content-Type: application/merge-patch+json"
	const denied, granted, made = http.StatusForbidden, http.StatusOK, http.StatusCreated
	token := func(p *corev1.Pod, audience string) string {
		return fmt.Sprintf(`{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{"audiences":[%s],
			"boundObjectRef":{"apiVersion":"v1","kind":"Pod","name":%q,"uid":%q}}}`, audience, p.Name, p.UID)
	}
	for _, c := range []struct {
		name, method, path, body string
		headers                  []string
		want                     int
	}{
		{name: "its own Secret", method: "GET", path: ns + "/secrets/ours", want: granted},
		{name: "another's Secret", method: "GET", path: ns + "/secrets/theirs", want: denied},
		{name: "all Secrets by a selector of one", method: "GET", path: ns + "/secrets?fieldSelector=metadata.name%3Dours,type%3DOpaque", want: granted},
		{name: "another's Secret by a selector", method: "GET", path: ns + "/secrets?fieldSelector=metadata.name%3Dtheirs", want: denied},
		{name: "two selectors, the first its own", method: "GET", path: ns + "/secrets?fieldSelector=metadata.name%3Dours&fieldSelector=metadata.name%3Dtheirs", want: granted},
		{name: "its own ConfigMap", method: "GET", path: ns + "/configmaps/ours", want: granted},
		{name: "another's ConfigMap", method: "GET", path: ns + "/configmaps/theirs", want: denied},
		{name: "the Secrets of joining", method: "GET", path: "/api/v1/namespaces/kube-system/secrets", want: denied},

		{name: "its own Pods", method: "GET", path: "/api/v1/pods?fieldSelector=spec.nodeName%3Dnear", want: granted},
		{name: "another's Pods", method: "GET", path: "/api/v1/pods?fieldSelector=spec.nodeName%3Dfar", want: denied},
		{name: "all but its own Pods", method: "GET", path: "/api/v1/pods?fieldSelector=spec.nodeName!%3Dnear", want: denied},
		{name: "another's Pod", method: "GET", path: ns + "/pods/theirs", want: denied},
		{name: "another's Pod's status", method: "PATCH", path: ns + "/pods/theirs/status", headers: []string{merge}, body: `{"status":{"phase":"Failed"}}`, want: denied},
		{name: "deletion of another's Pod", method: "DELETE", path: ns + "/pods/theirs", want: denied},
		{name: "labels through its own Pod's status", method: "PATCH", path: ns + "/pods/ours/status", headers: []string{merge}, body: `{"metadata":{"labels":{"app":"other"}}}`, want: denied},
		{name: "its own Pod's spec", method: "PATCH", path: ns + "/pods/ours", headers: []string{merge}, body: `{"metadata":{"labels":{"app":"other"}}}`, want: denied},
		{name: "a Pod", method: "POST", path: ns + "/pods", body: `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x"},"spec":{"nodeName":"near","containers":[{"name":"x","image":"x"}]}}`, want: denied},
		{name: "a mirror Pod on another node", method: "POST", path: ns + "/pods", body: `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x","annotations":{"kubernetes.io/config.mirror":"x"}},"spec":{"nodeName":"far","containers":[{"name":"x","image":"x"}]}}`, want: denied},
		{name: "a binding", method: "POST", path: ns + "/pods/theirs/binding", body: `{"apiVersion":"v1","kind":"Binding","metadata":{"name":"theirs"},"target":{"kind":"Node","name":"near"}}`, want: denied},
		{name: "a command in its own Pod", method: "GET", path: ns + "/pods/ours/exec?command=id&stdout=1", want: denied},
		{name: "a command in another's Pod", method: "GET", path: ns + "/pods/theirs/exec?command=id&stdout=1", want: denied},
		{name: "another's log", method: "GET", path: ns + "/pods/theirs/log", want: denied},
		{name: "another's Pod through the proxy", method: "GET", path: ns + "/pods/theirs:8080/proxy/", want: denied},
		{name: "another node through the proxy", method: "GET", path: "/api/v1/nodes/far/proxy/pods", want: denied},
		{name: "itself through the proxy", method: "GET", path: "/api/v1/nodes/near/proxy/pods", want: denied},

		{name: "a token of its own Pod's account", method: "POST", path: ns + "/serviceaccounts/ours/token", body: token(ours, ""), want: made},
		{name: "such a token for anyone", method: "POST", path: ns + "/serviceaccounts/ours/token", body: token(ours, `"vault"`), want: denied},
		{name: "a token bound to nothing", method: "POST", path: ns + "/serviceaccounts/ours/token", body: `{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{}}`, want: denied},
		{name: "a token of another's account", method: "POST", path: ns + "/serviceaccounts/theirs/token", body: token(theirs, ""), want: denied},
		{name: "a token bound to another's Pod", method: "POST", path: ns + "/serviceaccounts/ours/token", body: token(theirs, ""), want: denied},

		{name: "another Node's status", method: "PATCH", path: "/api/v1/nodes/far/status", headers: []string{merge}, body: `{"status":{"addresses":[]}}`, want: denied},
		{name: "another Node", method: "PATCH", path: "/api/v1/nodes/far", headers: []string{merge}, body: `{"metadata":{"labels":{"a":"b"}}}`, want: denied},
		{name: "a Node of another name", method: "POST", path: "/api/v1/nodes", body: `{"apiVersion":"v1","kind":"Node","metadata":{"name":"other"}}`, want: denied},
		{name: "a label of its own", method: "PATCH", path: "/api/v1/nodes/near", headers: []string{merge}, body: `{"metadata":{"labels":{"example.org/own":"yes"}}}`, want: granted},
		{name: "a label that draws workloads", method: "PATCH", path: "/api/v1/nodes/near", headers: []string{merge}, body: `{"metadata":{"labels":{"node-restriction.kubernetes.io/trusted":"yes"}}}`, want: denied},
		{name: "a role", method: "PATCH", path: "/api/v1/nodes/near", headers: []string{merge}, body: `{"metadata":{"labels":{"node-role.kubernetes.io/control-plane":""}}}`, want: denied},
		{name: "its own taints", method: "PATCH", path: "/api/v1/nodes/near", headers: []string{merge}, body: `{"spec":{"taints":[{"key":"a","effect":"NoSchedule"}]}}`, want: denied},
		{name: "its own deletion, to be rid of a taint", method: "DELETE", path: "/api/v1/nodes/near", want: denied},
		{name: "another's Lease", method: "PATCH", path: "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/far", headers: []string{merge}, body: `{"spec":{"holderIdentity":"near"}}`, want: denied},
		{name: "a Lease elsewhere", method: "POST", path: "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases", body: `{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":"near"}}`, want: denied},

		{name: "being an administrator", method: "GET", path: "/api/v1/secrets", headers: []string{"Impersonate-User: system:admin", "Impersonate-Group: system:masters"}, want: denied},
		{name: "being another node", method: "GET", path: ns + "/secrets/theirs", headers: []string{"Impersonate-User: system:node:far", "Impersonate-Group: system:nodes"}, want: denied},
		{name: "being one by a front proxy's word", method: "GET", path: "/api/v1/secrets", headers: []string{"X-Remote-User: system:admin", "X-Remote-Group: system:masters"}, want: denied},
		{name: "metrics", method: "GET", path: "/metrics", want: denied},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, text, err := thief.ask(c.method, c.path, []byte(c.body), c.headers...)
			if err != nil || status != c.want {
				t.Errorf("%s %s: %d %v, want %d: %.300s", c.method, c.path, status, err, c.want, text)
			}
		})
	}
	s.kubectl("taint", "node", "near", "example.org/watched-")
	s.kubectl("label", "node", "near", "example.org/own-")
	t.Run("another node's own API", func(t *testing.T) {
		far := s.node("far")
		node := &intruder{server: "https://" + net.JoinHostPort(far.Address.String(), "10250"), client: thief.client}
		for _, path := range []string{"/pods", "/containerLogs/" + s.namespace + "/theirs/main", "/exec/" + s.namespace + "/theirs/main?command=id&output=1"} {
			status, text, err := node.ask("GET", path, nil)
			if err != nil || status != http.StatusForbidden && status != http.StatusUnauthorized {
				t.Errorf("%s: %d %v %.200s", path, status, err, text)
			}
		}
	})
}

// node is the cluster's node of that name.
func (c *cluster) node(name string) *lab.Node {
	i := slices.IndexFunc(c.nodes, func(n *lab.Node) bool { return n.Name == name })
	return c.nodes[i]
}
