package certificate

import (
	"slices"
	"strings"
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
)

// TestAttacks tries what somebody would who has a token, or the certificate of
// one node, and wants more.
func TestAttacks(t *testing.T) {
	key := newKey(t)
	old := func(a *asking) { a.credential = "c0" }
	in := func(groups ...string) func(*asking) { return func(a *asking) { a.groups = groups } }
	from := func(user string) func(*asking) { return func(a *asking) { a.user = user } }
	for name, c := range map[string]struct {
		asking asking
		want   string
	}{
		// With a token.
		"an existing node's name":          {joining("a"), `deny NodeNameTaken node name "a" is another machine's: choose another with --node-name, or, if that machine is gone, run "kubectl delete node a"`},
		"a name that was given away":       {joining("gone"), `deny NodeNameTaken node name "gone" is another machine's: choose another with --node-name, or, if that machine is gone, run "kubectl delete secret -n kube-system gone.node-key.skiff"`},
		"a node without a remembered key":  {joining("bare"), `deny NodeNameTaken`},
		"the server's node":                {joining("box"), `deny NodeNameTaken node name "box" is the server's own`},
		"the API server's name":            {joining("kubernetes.default.svc"), "deny NodeNameTaken"},
		"the API server's name outside":    {joining("api.example.org"), "deny NodeNameTaken"},
		"a name that a wildcard has":       {joining("n.lb.example.org"), "deny NodeNameTaken"},
		"a Service's name":                 {joining("web.default.svc.cluster.local"), "deny NodeNameTaken"},
		"a Service's short name":           {joining("web.default.svc"), "deny NodeNameTaken"},
		"localhost":                        {joining("localhost"), "deny NodeNameTaken"},
		"no name":                          {joining(""), "leave"},
		"a name that no Node can have":     {joining("A/B"), "deny NodeNameInvalid"},
		"a name too long to be remembered": {joining(strings.Repeat("a", 240)), "deny NodeNameInvalid"},
		"another user":                     {joining("", func(a *asking) { a.cn = "system:admin" }), "leave"},
		"a node that is master too":        {joining("new", func(a *asking) { a.org = []string{groupNodes, "system:masters"} }), "leave"},
		"a master":                         {joining("new", func(a *asking) { a.org = []string{"system:masters"} }), "leave"},
		"a client that may serve":          {joining("new", func(a *asking) { a.usages = append(slices.Clone(clientUsages), "server auth") }), "leave"},
		"a client that may sign":           {joining("new", func(a *asking) { a.usages = append(slices.Clone(clientUsages), "cert sign") }), "leave"},
		"a client with a name":             {joining("new", func(a *asking) { a.names = []string{"new"} }), "leave"},
		"a client with an address":         {joining("new", func(a *asking) { a.names = []string{"192.0.2.77"} }), "leave"},
		"serving before it is a node":      {joining("new", func(a *asking) { a.signer, a.names = servingSigner, []string{"new"} }), "leave"},
		"serving as a node that is there":  {joining("a", func(a *asking) { a.signer, a.names = servingSigner, []string{"a"} }), "leave"},
		"neither token nor node":           {joining("new", in("system:authenticated")), "leave"},
		"a token that calls itself a node": {joining("new", from(nodeUser+"new"), in(groupNodes+"x")), "leave"},
		"an administrator, who approves":   {joining("new", from("admin"), in("system:masters")), "leave"},
		"another signer's":                 {joining("new", func(a *asking) { a.signer, a.usages = certificatesv1.KubeAPIServerClientSignerName, clientUsages }), "leave"},

		// With a node's certificate.
		"the server's node's own":            {renewing("box"), "deny NodeNameTaken"}, // the server's would count no more
		"a name of a node to come":           {serving("a", "a", "c"), "leave"},
		"another node's name":                {renewing("a", func(a *asking) { a.cn = nodeUser + "b" }), "leave"},
		"a new node's name":                  {renewing("a", func(a *asking) { a.cn = nodeUser + "new" }), "leave"},
		"serving as another by name":         {renewing("a", func(a *asking) { a.cn, a.signer, a.names = nodeUser+"b", servingSigner, []string{"b"} }), "leave"},
		"a name from before it was deleted":  {renewing("a", old), `deny NodeNameTaken the certificate that asks is not one of those of node "a"`},
		"serving from before it was deleted": {renewing("a", old, func(a *asking) { a.signer, a.names = servingSigner, []string{"a", "192.0.2.10"} }), "deny NodeNameTaken"},
		"without showing a certificate":      {renewing("a", func(a *asking) { a.credential = "" }), "deny NodeNameTaken"},
		"not in the group of nodes":          {renewing("a", in("system:authenticated")), "leave"},
		"another node's address":             {serving("a", "a", "192.0.2.11"), `deny SubjectAltNameNotAllowed "192.0.2.11" is node b's`},
		"another node's address, mapped":     {serving("a", "a", "::ffff:192.0.2.11"), "deny SubjectAltNameNotAllowed"},
		"another node's address as a name":   {serving("a", "a", "dns:192.0.2.11"), "deny SubjectAltNameNotAllowed"},
		"another node's address, new":        {serving("new", "new", "192.0.2.11"), "deny SubjectAltNameNotAllowed"},
		"another node's name for serving":    {serving("a", "a", "b"), `deny SubjectAltNameNotAllowed "b" is node b's`},
		"another node's name, in capitals":   {serving("a", "a", "B"), "deny SubjectAltNameNotAllowed"},
		"another node's name outside":        {serving("a", "b.example.org"), "deny SubjectAltNameNotAllowed"},
		"the server's node's address":        {serving("a", "192.0.2.1"), "deny SubjectAltNameNotAllowed 192.0.2.1 is the API server's address"},
		"the advertised address":             {serving("a", "a", "203.0.113.5"), "deny SubjectAltNameNotAllowed"},
		"the API server's IPv6 address":      {serving("new", "2001:db8::1"), "deny SubjectAltNameNotAllowed"},
		"the API Service's address":          {serving("new", "new", "10.43.0.1"), "deny SubjectAltNameNotAllowed"},
		"a Service's address":                {serving("new", "new", "10.43.0.10"), "deny SubjectAltNameNotAllowed 10.43.0.10 is in the cluster's range"},
		"a Pod's address":                    {serving("new", "new", "10.42.3.4"), "deny SubjectAltNameNotAllowed"},
		"a Pod's IPv6 address":               {serving("new", "new", "fd00:42::7"), "deny SubjectAltNameNotAllowed"},
		"kubernetes.default.svc":             {serving("a", "a", "kubernetes.default.svc"), "deny SubjectAltNameNotAllowed"},
		"Kubernetes.Default.Svc":             {serving("a", "a", "Kubernetes.Default.Svc"), "deny SubjectAltNameNotAllowed"},
		"kubernetes.default.svc.":            {serving("a", "a", "kubernetes.default.svc."), "deny SubjectAltNameNotAllowed"},
		"the API server's name, for serving": {serving("a", "api.example.org"), "deny SubjectAltNameNotAllowed"},
		"a name of the cluster's DNS":        {serving("a", "a", "web.default.svc.cluster.local"), "deny SubjectAltNameNotAllowed"},
		"a wildcard":                         {serving("a", "*.example.org"), "deny SubjectAltNameNotAllowed"},
		"the server's node, for serving":     {serving("box", "box"), "deny SubjectAltNameNotAllowed"},
		"nothing but loopback":               {serving("a", "localhost", "127.0.0.1", "::1"), "deny SubjectAltNameNotAllowed"},
		"multicast":                          {serving("new", "new", "224.0.0.1"), "deny SubjectAltNameNotAllowed"},
		"link-local (cloud metadata)":        {serving("new", "new", "169.254.169.254"), "deny SubjectAltNameNotAllowed"},
		"everywhere":                         {serving("new", "new", "0.0.0.0"), "deny SubjectAltNameNotAllowed"},
		"a server that is a client": {renewing("a", func(a *asking) {
			a.signer, a.names, a.usages = servingSigner, []string{"a"}, append(slices.Clone(servingUsages), "client auth")
		}), "leave"},
		"a URI":                  {renewing("a", func(a *asking) { a.signer, a.names, a.uri = servingSigner, []string{"a"}, "cluster" }), "leave"},
		"a mail address":         {renewing("a", func(a *asking) { a.signer, a.names, a.email = servingSigner, []string{"a"}, "a@example.org" }), "leave"},
		"serving without a name": {serving("a"), "leave"},
	} {
		t.Run(name, func(t *testing.T) { wantDecision(t, world(t, key, c.asking).decide(), c.want) })
	}
}

// A node cannot be kept from its own name by another that claims it.
func TestNameIsTheNodes(t *testing.T) {
	q := world(t, newKey(t), serving("new", "new"))
	q.nodes = append(q.nodes, nodeAt("liar", "new"))
	wantDecision(t, q.decide(), "approve")
}

// A node that lists somebody else's address as its own gets no further for it.
func TestLiesAboutOneself(t *testing.T) {
	liar := nodeAt("liar", "10.43.0.1", "192.0.2.11", "203.0.113.5", "kubernetes", "b")
	for _, name := range []string{"10.43.0.1", "192.0.2.11", "203.0.113.5", "kubernetes", "b"} {
		q := world(t, newKey(t), serving("liar", "liar", name))
		q.node, q.nodes = liar, append(q.nodes, liar)
		wantDecision(t, q.decide(), "deny SubjectAltNameNotAllowed")
	}
}
