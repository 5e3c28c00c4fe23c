package certificate

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	clientSigner  = certificatesv1.KubeAPIServerClientKubeletSignerName
	servingSigner = certificatesv1.KubeletServingSignerName
)

var (
	clientUsages  = []certificatesv1.KeyUsage{"client auth", "digital signature", "key encipherment"}
	servingUsages = []certificatesv1.KeyUsage{"digital signature", "server auth"}
)

func newKey(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// asking is a request that a test makes up.
type asking struct {
	user, signer string
	groups       []string
	cn           string
	org          []string // nil: system:nodes
	names        []string // DNS names and addresses
	uri, email   string
	usages       []certificatesv1.KeyUsage // nil: the signer's
	key          crypto.Signer             // nil: a new one
	credential   string
}

func (a asking) request(t *testing.T) (*certificatesv1.CertificateSigningRequest, *x509.CertificateRequest) {
	t.Helper()
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: a.cn, Organization: a.org}}
	if a.org == nil {
		template.Subject.Organization = []string{groupNodes}
	}
	for _, n := range a.names {
		if ip := net.ParseIP(n); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, strings.TrimPrefix(n, "dns:"))
		}
	}
	if a.uri != "" {
		template.URIs = []*url.URL{{Scheme: "spiffe", Host: a.uri}}
	}
	if a.email != "" {
		template.EmailAddresses = []string{a.email}
	}
	if a.key == nil {
		a.key = newKey(t)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, a.key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificateRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	r := &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{Name: "r"},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			Request:    pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}),
			SignerName: a.signer, Username: a.user, Groups: a.groups, Usages: a.usages,
		},
	}
	if a.usages == nil {
		r.Spec.Usages = map[string][]certificatesv1.KeyUsage{clientSigner: clientUsages, servingSigner: servingUsages}[a.signer]
	}
	if a.credential != "" {
		r.Spec.Extra = map[string]certificatesv1.ExtraValue{credentialExtra: {credentialOfPeer + a.credential}}
	}
	return r, parsed
}

// joining is what a newcomer asks for.
func joining(name string, change ...func(*asking)) asking {
	a := asking{
		user: "system:bootstrap:abcdef", groups: []string{groupBootstrappers, "system:authenticated"},
		signer: clientSigner, cn: nodeUser + name,
	}
	for _, f := range change {
		f(&a)
	}
	return a
}

// renewing is what a node asks for.
func renewing(name string, change ...func(*asking)) asking {
	a := asking{user: nodeUser + name, groups: []string{groupNodes, "system:authenticated"}, signer: clientSigner, cn: nodeUser + name, credential: "c1"}
	for _, f := range change {
		f(&a)
	}
	return a
}

// serving is what a node that wants to serve asks for.
func serving(name string, names ...string) asking {
	return renewing(name, func(a *asking) { a.signer, a.names = servingSigner, names })
}

func nodeAt(name string, addresses ...string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("uid-" + name)}}
	n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: name}}
	for _, a := range addresses {
		typed := corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a}
		if _, err := netip.ParseAddr(a); err != nil {
			typed.Type = corev1.NodeExternalDNS
		}
		n.Status.Addresses = append(n.Status.Addresses, typed)
	}
	return n
}

// world is what the tests ask in: a server named box with a node of its own, and
// the nodes a and b. What is remembered of a is the key aKey and the certificate
// c1; c0 was one of a's before it was deleted and joined anew.
func world(t *testing.T, key crypto.Signer, a asking) question {
	t.Helper()
	r, parsed := a.request(t)
	q := question{
		Config: Config{
			Node: "box", Domain: "cluster.local",
			Ranges: []netip.Prefix{netip.MustParsePrefix("10.42.0.0/16"), netip.MustParsePrefix("10.43.0.0/16"), netip.MustParsePrefix("fd00:42::/56")},
		},
		request: r, parsed: parsed, name: nodeOf(parsed),
		nodes: []*corev1.Node{nodeAt("box", "192.0.2.1"), nodeAt("a", "192.0.2.10", "2001:db8::a", "a.example.org"), nodeAt("b", "192.0.2.11", "b.example.org"), nodeAt("bare", "192.0.2.12")},
		api: &x509.Certificate{
			DNSNames:    []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost", "box", "api.example.org", "*.lb.example.org"},
			IPAddresses: []net.IP{net.ParseIP("127.0.0.1"), net.ParseIP("10.43.0.1"), net.ParseIP("192.0.2.1"), net.ParseIP("203.0.113.5"), net.ParseIP("2001:db8::1")},
		},
	}
	if i := slices.IndexFunc(q.nodes, func(n *corev1.Node) bool { return n.Name == q.name }); i >= 0 {
		q.node = q.nodes[i]
	}
	_, remembered := asking{cn: "x", key: key}.request(t)
	switch q.name {
	case "a", "gone": // gone has joined and never registered
		q.known = &nodeKey{spki: spkiOf(remembered), certificates: []string{"c1"}}
	}
	return q
}

func TestApproval(t *testing.T) {
	key := newKey(t)
	with := func(a *asking) { a.key = key }
	old := func(a *asking) { a.credential = "c0" }
	for name, c := range map[string]struct {
		asking asking
		want   string // outcome, reason, and a part of the message
	}{
		"newcomer":                      {joining("new"), "approve AutoApproved"},
		"newcomer, fewer usages":        {joining("new", func(a *asking) { a.usages = []certificatesv1.KeyUsage{"client auth", "digital signature"} }), "approve AutoApproved"},
		"once more with the same key":   {joining("a", with), "approve AutoApproved"},
		"never registered, same key":    {joining("gone", with), "approve AutoApproved"},
		"renewal":                       {renewing("a"), "approve AutoApproved Auto approving self kubelet"},
		"renewal with its old key":      {renewing("a", with), "approve AutoApproved"},
		"old certificate, right key":    {renewing("a", old, with), "approve AutoApproved"},
		"renewal of one not remembered": {renewing("bare"), "approve AutoApproved"},

		"serves as its name":                   {serving("a", "a"), "approve AutoApproved Auto approving kubelet serving"},
		"serves at its addresses":              {serving("a", "a", "localhost", "192.0.2.10", "2001:db8::a", "127.0.0.1", "::1"), "approve AutoApproved"},
		"serves as a name that its Node lists": {serving("a", "a", "a.example.org"), "leave"},
		"serves in capitals":                   {serving("a", "A"), "approve AutoApproved"},
		"serves before it registers":           {serving("new", "new", "198.51.100.7", "10.0.0.1"), "approve AutoApproved"},
		"not listed yet":                       {serving("a", "a", "192.0.2.99"), "leave"},
		"not listed yet, a name":               {serving("a", "a", "a.other.example.org"), "leave"},
		"a name before it registers":           {serving("new", "new", "new.example.org"), "leave"},
	} {
		t.Run(name, func(t *testing.T) { wantDecision(t, world(t, key, c.asking).decide(), c.want) })
	}
}

func wantDecision(t *testing.T, got decision, want string) {
	t.Helper()
	text := strings.TrimSpace(map[outcome]string{leave: "leave", approve: "approve", deny: "deny"}[got.outcome] + " " + got.reason + " " + got.message)
	if !strings.HasPrefix(text, want) {
		t.Errorf("%s\nwant %s", text, want)
	}
}

func TestForm(t *testing.T) {
	const apiClient = certificatesv1.KubeAPIServerClientSignerName
	usages := func(list ...certificatesv1.KeyUsage) func(*asking) { return func(a *asking) { a.usages = list } }
	for name, c := range map[string]struct {
		asking asking
		want   string
	}{
		"client":                   {joining("n"), ""},
		"client without usage":     {joining("n", usages("digital signature")), "usages did not match [client auth digital signature key encipherment]"},
		"client of another group":  {joining("n", func(a *asking) { a.org = []string{"x"} }), "subject organization is not system:nodes"},
		"client of another name":   {joining("", func(a *asking) { a.cn = "n" }), "subject common name does not begin with system:node:"},
		"client with DNS":          {joining("n", func(a *asking) { a.names = []string{"n"} }), "DNS subjectAltNames are not allowed"},
		"client with address":      {joining("n", func(a *asking) { a.names = []string{"192.0.2.1"} }), "IP subjectAltNames are not allowed"},
		"client with mail":         {joining("n", func(a *asking) { a.email = "n@example.org" }), "Email subjectAltNames are not allowed"},
		"client with URI":          {joining("n", func(a *asking) { a.uri = "n" }), "URI subjectAltNames are not allowed"},
		"serving":                  {serving("n", "n"), ""},
		"serving nothing":          {serving("n"), "DNS or IP subjectAltName is required"},
		"serving as client":        {joining("n", func(a *asking) { a.signer, a.names, a.usages = servingSigner, []string{"n"}, clientUsages }), "usages did not match [digital signature key encipherment server auth]"},
		"serving of another group": {joining("n", func(a *asking) { a.signer, a.names, a.org = servingSigner, []string{"n"}, []string{"x"} }), "subject organization is not system:nodes"},
		"serving of another name":  {joining("n", func(a *asking) { a.signer, a.names, a.cn = servingSigner, []string{"n"}, "n" }), "subject common name does not begin with system:node:"},
		"user":                     {asking{cn: "me", signer: apiClient, usages: []certificatesv1.KeyUsage{"client auth"}}, ""},
		"user who serves":          {asking{cn: "me", signer: apiClient, usages: []certificatesv1.KeyUsage{"client auth", "server auth"}}, "invalid usage for client certificate: server auth"},
		"user without usage":       {asking{cn: "me", signer: apiClient, usages: []certificatesv1.KeyUsage{"digital signature"}}, "missing required usage for client certificate: client auth"},
		"another signer":           {asking{cn: "me", signer: "example.com/mine", usages: clientUsages}, "another signer's"},
	} {
		t.Run(name, func(t *testing.T) {
			r, parsed := c.asking.request(t)
			got := ""
			if err := wellFormed(r.Spec.SignerName, parsed, r.Spec.Usages); err != nil {
				got = err.Error()
			}
			if got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func TestLife(t *testing.T) {
	for seconds, want := range map[int32]time.Duration{0: defaultLife, 1: 10 * time.Minute, 600: 10 * time.Minute, 3600: time.Hour, 1 << 30: defaultLife} {
		var asked *int32
		if seconds > 0 {
			asked = &seconds
		}
		if got := life(asked); got != want {
			t.Errorf("%d seconds: %v, want %v", seconds, got, want)
		}
	}
}

func TestRememberedCertificates(t *testing.T) {
	var k nodeKey
	for _, step := range []struct{ add, strength, want string }{
		{"1", "", "1"},
		{"2", "1", "2 1"},
		{"3", "2", "3 2 1"},
		{"4", "3", "4 3 2 1"},
		{"5", "4", "5 4 3 2"},
		{"6", "2", "6 2 5 4"}, // what is used stays
		{"7", "x", "7 6 2 5"}, // what is not known is not learnt
	} {
		k.add(step.add, step.strength)
		if got := strings.Join(k.certificates, " "); got != step.want {
			t.Errorf("after %s: %s, want %s", step.add, got, step.want)
		}
	}
	var s corev1.Secret
	k.spki = "k"
	k.write(&s)
	if got := readKey(&s); got.spki != "k" || !slices.Equal(got.certificates, k.certificates) {
		t.Errorf("read back %+v", got)
	}
}

// What a Secret remembers counts as long as the Node is there that it belongs to,
// and is not written over if it is not what was looked at.
func TestRewrite(t *testing.T) {
	node, reborn := nodeAt("a"), nodeAt("a")
	reborn.UID = "uid-later"
	secret := func(spki string, owner *corev1.Node) *corev1.Secret {
		s := &corev1.Secret{}
		if spki != "" {
			nodeKey{spki: spki, certificates: []string{"c"}}.write(s)
		}
		own(s, owner)
		return s
	}
	for name, c := range map[string]struct {
		secret *corev1.Secret
		node   *corev1.Node
		known  *nodeKey
		want   string // spki, certificates and owner, or conflict
	}{
		"new":                           {secret("", nil), nil, nil, "new  "},
		"new, of a Node":                {secret("", nil), node, nil, "new  uid-a"},
		"changed":                       {secret("k", node), node, &nodeKey{spki: "k"}, "new c uid-a"},
		"changed, before it registered": {secret("k", nil), nil, &nodeKey{spki: "k"}, "new c "},
		"changed as it registered":      {secret("k", nil), node, &nodeKey{spki: "k"}, "new c uid-a"},
		"the Node is gone":              {secret("k", node), nil, nil, "new  "},
		"the Node is another":           {secret("k", node), reborn, nil, "new  uid-later"},
		"the Node went meanwhile":       {secret("k", node), nil, &nodeKey{spki: "k"}, "conflict"},
		"it was remembered meanwhile":   {secret("k", nil), nil, nil, "conflict"},
		"another was remembered":        {secret("l", nil), nil, &nodeKey{spki: "k"}, "conflict"},
	} {
		t.Run(name, func(t *testing.T) {
			got := "conflict"
			q := question{name: "a", node: c.node, known: c.known}
			if err := q.rewrite(c.secret, func(k *nodeKey) { k.spki = "new" }); err == nil {
				k, owner := readKey(c.secret), ""
				for _, ref := range c.secret.OwnerReferences {
					owner += string(ref.UID)
				}
				got = k.spki + " " + strings.Join(k.certificates, ",") + " " + owner
			}
			if got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func TestDeadline(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	short := certificateUntil(t, at.Add(30*time.Minute))
	type conditions = []certificatesv1.RequestConditionType
	for name, c := range map[string]struct {
		conditions  conditions
		certificate []byte
		want        time.Duration // after creation; the conditions are a minute younger
	}{
		"pending":             {nil, nil, 24 * time.Hour},
		"denied":              {conditions{"Denied"}, nil, time.Hour + time.Minute},
		"failed":              {conditions{"Approved", "Failed"}, nil, time.Hour + time.Minute},
		"approved, unsigned":  {conditions{"Approved"}, nil, 24*time.Hour + time.Minute},
		"issued":              {conditions{"Approved"}, certificateUntil(t, at.AddDate(1, 0, 0)), time.Hour + time.Minute},
		"issued, for a while": {conditions{"Approved"}, short, 30 * time.Minute},
		"somebody's own":      {conditions{"Mine"}, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := &certificatesv1.CertificateSigningRequest{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(at)}}
			for _, t := range c.conditions {
				r.Status.Conditions = append(r.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{Type: t, LastUpdateTime: metav1.NewTime(at.Add(time.Minute))})
			}
			r.Status.Certificate = c.certificate
			want := at.Add(c.want)
			if c.want == 0 {
				want = time.Time{}
			}
			if got := deadline(r); !got.Equal(want) {
				t.Errorf("%v, want %v", got, want)
			}
		})
	}
}

func certificateUntil(t *testing.T, end time.Time) []byte {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: end}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
