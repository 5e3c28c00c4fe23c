package join_test

import (
	"context"
	"crypto/x509"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/auth"
	"github.com/skiff-sh/skiff/internal/join"
	"github.com/skiff-sh/skiff/internal/pki"
)

func TestJoin(t *testing.T) {
	p := startPlane(t, t.TempDir())
	c := machine(t, []string{closedURL(t), p.url}, p.ownToken(t))
	m := joins(t, c)
	client := m.Client.Pair().Certificate
	if client.Subject.CommonName != "system:node:n1" || !slices.Equal(client.Subject.Organization, []string{"system:nodes"}) {
		t.Errorf("client is %s", client.Subject)
	}
	serving := m.Serving.Pair().Certificate
	for _, name := range []string{"n1", "localhost", "127.0.0.1", nodeAddress.String()} {
		if err := serving.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
	if _, err := serving.Verify(x509.VerifyOptions{Roots: pki.Pair{Certificate: m.Authority}.Pool()}); err != nil {
		t.Error(err)
	}
	if got := m.Cluster; !slices.Equal(got.ClusterCIDRs, p.settings.ClusterCIDRs) || !slices.Equal(got.ServiceCIDRs, p.settings.ServiceCIDRs) ||
		!slices.Equal(got.ClusterDNS, p.settings.ClusterDNS) || got.ClusterDomain != p.settings.ClusterDomain ||
		!slices.Equal(got.Servers, []string{strings.Replace(p.url, "127.0.0.1", p.settings.NodeIPs[0].String(), 1)}) {
		t.Errorf("cluster is %+v", got)
	}
	if _, err := m.API().CoreV1().Services("").List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Errorf("as a node: %v", err)
	}
	checkFiles(t, c.Host.DataDir)
}

// checkFiles says whether root alone can read all that is kept.
func checkFiles(t *testing.T, dir string) {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
		names = append(names, strings.TrimPrefix(path, dir+"/agent/"))
		return nil
	})
	want := []string{"cluster.json", "tls/client.crt", "tls/client.key", "tls/server-ca.crt", "tls/serving.crt", "tls/serving.key"}
	if slices.Sort(names); err != nil || !slices.Equal(names, want) {
		t.Errorf("files are %q, %v", names, err)
	}
}

// Who has joined needs neither the token nor a server.
func TestStartWithoutServer(t *testing.T) {
	p := startPlane(t, t.TempDir())
	c := machine(t, []string{p.url}, p.bootstrapToken(t, nil))
	before := joins(t, c)
	p.stop()
	c.Token = ""
	after := joins(t, c)
	if !after.Client.Pair().Certificate.Equal(before.Client.Pair().Certificate) || !after.Serving.Pair().Certificate.Equal(before.Serving.Pair().Certificate) {
		t.Error("it has other certificates")
	}
	if !slices.Equal(after.Cluster.ClusterDNS, before.Cluster.ClusterDNS) || after.Uplink.URL() != p.url {
		t.Errorf("it knows %+v and %s", after.Cluster, after.Uplink.URL())
	}
}

// A crash after any step costs no more than that step: no second key, no request
// that was made already, and no second use of the token.
func TestCrashBetweenSteps(t *testing.T) {
	p := startPlane(t, t.TempDir())
	steps := []string{"tls/client.key", "tls/client.crt", "cluster.json", "tls/serving.key", "tls/serving.crt"}
	for i := range steps {
		t.Run("before "+filepath.Base(steps[i]), func(t *testing.T) {
			free(t, p, "n1")
			c := machine(t, []string{p.url}, p.bootstrapToken(t, func(b *auth.BootstrapToken) { b.Once = true }))
			before := joins(t, c)
			asked := p.requests(t)
			for _, file := range steps[max(i, 1):] { // a key that is gone is another machine
				if err := os.Remove(filepath.Join(c.Host.DataDir, "agent", file)); err != nil {
					t.Fatal(err)
				}
			}
			after := joins(t, c)
			if !sameKey(before.Client, after.Client) {
				t.Error("it has another key")
			}
			now := p.requests(t)
			if now["kube-apiserver-client-kubelet"] != asked["kube-apiserver-client-kubelet"] {
				t.Errorf("requests were %v, are %v", asked, now)
			}
		})
	}
}

func sameKey(a, b *pki.Identity) bool {
	return slices.Equal(a.Pair().Certificate.RawSubjectPublicKeyInfo, b.Pair().Certificate.RawSubjectPublicKeyInfo)
}

// What is damaged and can be had again is had again.
func TestDamagedFiles(t *testing.T) {
	p := startPlane(t, t.TempDir())
	for _, file := range []string{"tls/client.crt", "tls/serving.crt", "tls/serving.key", "cluster.json"} {
		t.Run(filepath.Base(file), func(t *testing.T) {
			free(t, p, "n1")
			c := machine(t, []string{p.url}, p.bootstrapToken(t, nil))
			before := joins(t, c)
			write(t, filepath.Join(c.Host.DataDir, "agent", file), "-----BEGIN")
			if after := joins(t, c); !sameKey(before.Client, after.Client) || after.Cluster.ClusterDomain != "cluster.local" {
				t.Errorf("membership is %+v", after)
			}
		})
	}
}

// A name that was given back can be had; until then the same machine asks in vain.
func TestNameThatGetsFree(t *testing.T) {
	p := startPlane(t, t.TempDir())
	joins(t, machine(t, []string{p.url}, p.ownToken(t)))
	second := machine(t, []string{p.url}, p.ownToken(t))
	if got := verdict(t, second); !strings.Contains(got, "NodeNameTaken") {
		t.Fatal(got)
	}
	free(t, p, "n1")
	joins(t, second) // it does not stumble over its own request that was denied
}

// A certificate is replaced in time, with the same key, and kept.
func TestClientIsRenewed(t *testing.T) {
	p := startPlane(t, t.TempDir())
	c := machine(t, []string{p.url}, p.ownToken(t))
	first := joins(t, c).Client.Pair().Certificate
	c.Clock.Now = func() time.Time { return first.NotAfter.Add(-24 * time.Hour) }
	m := joins(t, c)
	before, renewed := m.Client.Watch()
	stop := run(t, m.KeepClient)
	<-renewed
	after := m.Client.Pair()
	if !sameKey(pki.NewIdentity(before), m.Client) || after.Certificate.Equal(before.Certificate) {
		t.Error("it has the same certificate, or another key")
	}
	if _, err := m.API().CoreV1().Services("").List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Errorf("with the new certificate: %v", err)
	}
	stop()
	c.Token = ""
	if kept := joins(t, c).Client.Pair().Certificate; !kept.Equal(after.Certificate) {
		t.Error("the new certificate is not kept")
	}
}

// The certificate of the node's API is for the addresses that the node has.
func TestServingFollowsAddresses(t *testing.T) {
	p := startPlane(t, t.TempDir())
	m := joins(t, machine(t, []string{p.url}, p.ownToken(t)))
	other := netip.MustParseAddr("192.0.2.8")
	changed := make(chan struct{}, 1)
	addresses := make(chan []netip.Addr, 1)
	addresses <- []netip.Addr{nodeAddress}
	now := func() []netip.Addr {
		list := <-addresses
		addresses <- list
		return list
	}
	_, renewed := m.Serving.Watch()
	run(t, func(ctx context.Context) error { return m.KeepServing(ctx, now, changed) })
	<-addresses
	addresses <- []netip.Addr{other}
	changed <- struct{}{}
	<-renewed
	serving := m.Serving.Pair().Certificate
	if serving.VerifyHostname(other.String()) != nil || serving.VerifyHostname(nodeAddress.String()) == nil || serving.VerifyHostname("n1") != nil {
		t.Errorf("it is for %v and %v", serving.IPAddresses, serving.DNSNames)
	}
}

// A Node that comes back with another address gets a certificate for its name
// until it has said so.
func TestNodeThatComesBackElsewhere(t *testing.T) {
	p := startPlane(t, t.TempDir())
	c := machine(t, []string{p.url}, p.ownToken(t))
	m := joins(t, c)
	registerNode(t, m, nodeAddress)
	if err := os.Remove(filepath.Join(c.Host.DataDir, "agent", "tls", "serving.crt")); err != nil {
		t.Fatal(err)
	}
	other := netip.MustParseAddr("192.0.2.8")
	c.Addresses = []netip.Addr{other}
	m = joins(t, c)
	if serving := m.Serving.Pair().Certificate; serving.VerifyHostname("n1") != nil || serving.VerifyHostname(other.String()) == nil {
		t.Errorf("it is for %v and %v", serving.IPAddresses, serving.DNSNames)
	}
	_, renewed := m.Serving.Watch()
	run(t, func(ctx context.Context) error {
		return m.KeepServing(ctx, func() []netip.Addr { return c.Addresses }, nil)
	})
	registerNode(t, m, other)
	<-renewed
	if serving := m.Serving.Pair().Certificate; serving.VerifyHostname(other.String()) != nil {
		t.Errorf("it is for %v and %v", serving.IPAddresses, serving.DNSNames)
	}
}

// A machine whose Node was deleted and whose name another one has got since learns
// that it is a node no more.
func TestMachineThatWasReplaced(t *testing.T) {
	p := startPlane(t, t.TempDir())
	c := machine(t, []string{p.url}, p.ownToken(t))
	first := joins(t, c)
	registerNode(t, first, nodeAddress)
	if err := p.client.CoreV1().Nodes().Delete(t.Context(), "n1", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	second := joins(t, machine(t, []string{p.url}, p.ownToken(t)))
	c.Token = ""
	err := joins(t, c).FollowCluster(t.Context())
	if problem := new(join.Problem); !errors.As(err, &problem) || !problem.Replaced ||
		err.Error() != `NodeNameTaken: the name of node "n1" is another machine's by now: join again under another name with --node-name and a token, or, if that machine is gone, after "kubectl delete node n1"` {
		t.Errorf("the first: %v", err)
	}
	registerNode(t, second, nodeAddress)
	if err := first.API().CoreV1().Nodes().Delete(t.Context(), "n1", metav1.DeleteOptions{}); !apierrors.IsUnauthorized(err) {
		t.Errorf("the first deletes the second's Node: %v", err)
	}
}

// Settings that change are those of the next start.
func TestClusterIsFollowed(t *testing.T) {
	p := startPlane(t, t.TempDir())
	c := machine(t, []string{p.url}, p.ownToken(t))
	joins(t, c)
	file := filepath.Join(c.Host.DataDir, "agent", "cluster.json")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	write(t, file, strings.Replace(string(text), "cluster.local", "old.local", 1))
	warned := make(chan struct{})
	c.Log = zap.New(follower{zap.WarnLevel, func(e zapEntry, _ string) {
		if strings.Contains(e.Message, "have changed") {
			close(warned)
		}
	}})
	m, err := join.Join(t.Context(), c)
	if err != nil || m.Cluster.ClusterDomain != "old.local" {
		t.Fatalf("%v, %v", m.Cluster, err)
	}
	run(t, m.FollowCluster)
	<-warned
	if m := joins(t, c); m.Cluster.ClusterDomain != "cluster.local" {
		t.Errorf("the next start knows %+v", m.Cluster)
	}
}

// Remove forgets all: the machine joins as one that was never here.
func TestRemove(t *testing.T) {
	p := startPlane(t, t.TempDir())
	c := machine(t, []string{p.url}, p.ownToken(t))
	before := joins(t, c)
	for range 2 {
		if err := join.NewDirectory(c.Host).Remove(); err != nil {
			t.Fatal(err)
		}
	}
	free(t, p, "n1")
	if after := joins(t, c); sameKey(before.Client, after.Client) {
		t.Error("it has the same key")
	}
}
