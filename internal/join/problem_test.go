package join_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skiff-sh/skiff/internal/auth"
	"github.com/skiff-sh/skiff/internal/join"
	"github.com/skiff-sh/skiff/internal/pki"
)

// What stands in the way is told with what to do. What waiting may mend is waited
// for: the text begins with "waits:" then.
func TestProblems(t *testing.T) {
	p := startPlane(t, t.TempDir())
	other := startPlane(t, t.TempDir())
	own := p.ownToken(t)
	authority := readAuthority(t, p)
	impostor := startImpostor(t, nil, nil)
	impostor.serve(answerWith(impostor.own.CertificatePEM()))
	relay := startImpostor(t, nil, answerWith(p.authority(t))) // what /cacerts says is no secret
	nameless := serveTLS(t, authority, []string{"elsewhere"}, answerWith(p.authority(t)))
	nameless = strings.Replace(nameless, "127.0.0.1", "localhost", 1)
	once := p.bootstrapToken(t, func(b *auth.BootstrapToken) { b.Once = true })
	joins(t, machine(t, []string{p.url}, once))
	nobody := closedURL(t)

	for _, c := range []struct {
		name    string
		servers []string // of p, if there are none
		token   string
		change  func(*join.Config)
		want    string
	}{
		{name: "no token", want: "this machine has not joined a cluster yet: give the agent a token, with --token, --token-file or SKIFF_TOKEN; skiff token create on a server makes one"},
		{name: "malformed", token: "K10abc::server:x", want: "the token is not valid: the digest behind K10 has 3 digits, it should have 64; make one on a server with skiff token create"},
		{name: "no digest", token: "server:secretsecret", want: "the token does not say which cluster to trust, and whoever answers in its place would get it: use the whole token, which begins with K10: skiff token create on a server prints one, and the server's own is in DATA-DIR/server/token there"},
		{name: "another cluster's", token: other.ownToken(t), want: "SERVER: the server is not the one that made the token: its certificate authority has another digest: either the token is another cluster's (skiff token create on this one's server makes one), or someone stands in between: nothing secret was sent"},
		{name: "wrong password", token: own[:69] + "server:wrongwrong", want: "the server does not take the token: its password is another: read DATA-DIR/server/token on the server again, or make a new one with skiff token create there"},
		{name: "unknown", token: own[:69] + "abcdef.0123456789abcdef", want: "the server does not take bootstrap token TOKEN: make a new one with skiff token create on a server"},
		{name: "expired", token: p.bootstrapToken(t, func(b *auth.BootstrapToken) { b.Expiration = "2026-01-02T03:04:05Z" }),
			want: "the server does not take the token: bootstrap token TOKEN expired on TIME: make another on a server with skiff token create"},
		{name: "used up", token: once, change: func(c *join.Config) { c.NodeName = "n2" },
			want: "the server does not take the token: bootstrap token TOKEN works once, and node n1 joined with it on TIME: make another on a server with skiff token create"},
		{name: "name taken", token: own, want: "waits: the cluster refuses this node: NodeNameTaken: node name \"n1\" is another machine's: choose another with --node-name, or, if that machine is gone, run \"kubectl delete secret -n kube-system n1.node-key.skiff\" (there is no Node to delete): it is asked again in a minute"},
		{name: "the server's name", token: own, change: func(c *join.Config) { c.NodeName = "box" }, want: "waits: the cluster refuses this node: NodeNameTaken: node name \"box\" is the server's own…: choose another with --node-name: it is asked again in a minute"},
		{name: "someone in between", servers: []string{impostor.url}, token: own, want: "SERVER: the server is not the one that made the token: its certificate authority has another digest: either the token is another cluster's (skiff token create on this one's server makes one), or someone stands in between: nothing secret was sent"},
		{name: "someone who passes on the authority", servers: []string{relay.url}, token: own, want: "SERVER: x509: certificate signed by unknown authority: the certificate is not this cluster's: check --server, and what stands in between"},
		{name: "someone of another time", servers: []string{relay.url}, token: own, change: func(c *join.Config) {
			c.Clock = pki.Clock{Now: func() time.Time { return time.Unix(0, 0).AddDate(90, 0, 0) }}
		}, want: "SERVER: x509: certificate signed by unknown authority: the certificate is not this cluster's: check --server, and what stands in between"},
		{name: "a server whose certificate has ended", token: own, change: func(c *join.Config) {
			c.Clock = pki.Clock{Now: func() time.Time { return time.Unix(0, 0).AddDate(90, 0, 0) }}
		}, want: "waits: SERVER: x509: certificate has expired or is not yet valid: …: the certificate of skiff-server ended on DAY, and it is 2060-01-01 by this machine's clock: set it if that is wrong; if not, restart the server, which renews its certificate: it is tried again"},
		{name: "a name that the server does not have", servers: []string{nameless}, token: own, want: "SERVER: x509: certificate is valid for elsewhere, not localhost: name the server by one of these with --server, or start it with --tls-san localhost"},
		{name: "nobody", servers: []string{nobody}, token: own, want: "waits: SERVER: dial tcp HOST: connect: connection refused: start the server, or check --server, the network and firewalls in between: TCP to this port is all it takes"},
		{name: "HTTP", servers: []string{serveHTTP(t)}, token: own, want: "SERVER: http: server gave HTTP response to HTTPS client: nothing speaks TLS there: check the port of --server"},
		{name: "another program", servers: []string{serveTLS(t, authority, nil, http.NotFound)}, token: own, want: "SERVER: there is no /cacerts (404 Not Found), so it is no skiff server: check --server, and what answers there"},
		{name: "a server that starts", servers: []string{serveTLS(t, authority, nil, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })}, token: own,
			want: "waits: SERVER answers 503 Service Unavailable: look at the server's log, unless it is just starting"},
		{name: "several, one of which may come", servers: []string{impostor.url, nobody}, token: own,
			want: "waits: SERVER: the server is not the one that made the token: its certificate authority has another digest: either the token is another cluster's (skiff token create on this one's server makes one), or someone stands in between: nothing secret was sent\n" +
				"SECOND: dial tcp HOST: connect: connection refused: start the server, or check --server, the network and firewalls in between: TCP to this port is all it takes"},
		{name: "a server's directory", token: own, change: func(c *join.Config) { c.Host = hostOf(p) }, want: "DIR is a server's data directory, and a server has a node of its own: run skiff server, or name another directory with --data-dir"},
	} {
		t.Run(c.name, func(t *testing.T) {
			servers := c.servers
			if servers == nil {
				servers = []string{p.url}
			}
			m := machine(t, servers, c.token)
			if c.change != nil {
				c.change(&m)
			}
			got := verdict(t, m)
			if got = anonymous(got, m); !matches(got, c.want) {
				t.Errorf("got:  %s\nwant: %s", got, c.want)
			}
		})
	}
	impostor.check(t)
	relay.check(t)
}

// A directory that has joined goes on with its own cluster only.
func TestProblemsOfWhoHasJoined(t *testing.T) {
	p := startPlane(t, t.TempDir())
	other := startPlane(t, t.TempDir())
	for _, c := range []struct {
		name   string
		change func(*join.Config)
		want   string
	}{
		{"another cluster's token", func(c *join.Config) { c.Token = other.ownToken(t) }, "the token is of another cluster than the one this machine has joined (DIR/agent/tls/server-ca.crt): leave the old one first (skiff leave, or remove DIR/agent/tls and DIR/agent/cluster.json if it is gone), name another --data-dir, or take out the token"},
		{"another name", func(c *join.Config) { c.NodeName = "n2" }, "this machine has joined as n1, not as n2: give the agent a token, with --token, --token-file or SKIFF_TOKEN; skiff token create on a server makes one"},
		{"long ago", func(c *join.Config) { c.Clock.Now = func() time.Time { return time.Now().AddDate(2, 0, 0) } }, "this machine's certificate ended on DAY: give the agent a token, with --token, --token-file or SKIFF_TOKEN; skiff token create on a server makes one"},
		{"key lost", func(c *join.Config) {
			write(t, filepath.Join(c.Host.DataDir, "agent", "tls", "client.key"), "garbage")
		}, "DIR/agent/tls/client.key is damaged (expected a PEM block \"PRIVATE KEY\"): restore it from a backup: or remove DIR/agent/tls, free the node's name with kubectl delete node, and join anew with a token"},
		{"authority damaged", func(c *join.Config) {
			write(t, filepath.Join(c.Host.DataDir, "agent", "tls", "server-ca.crt"), "garbage")
		}, "DIR/agent/tls/server-ca.crt is damaged: there is not one certificate in it: remove it and start the agent with a token: the node's key and name stay"},
		{"a token that is none", func(c *join.Config) { c.Token = "garbage" }, "joined"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := machine(t, []string{p.url}, p.ownToken(t))
			free(t, p, m.NodeName)
			joins(t, m)
			m.Token = ""
			c.change(&m)
			if got := anonymous(verdict(t, m), m); got != c.want {
				t.Errorf("got:  %s\nwant: %s", got, c.want)
			}
		})
	}
}

// matches compares a text with one in which "…" stands for anything.
func matches(got, want string) bool {
	begin, end, _ := strings.Cut(want, "…")
	return got == want || strings.Contains(want, "…") && strings.HasPrefix(got, begin) && strings.HasSuffix(got, end)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func readAuthority(t *testing.T, p *plane) pki.Pair {
	t.Helper()
	files, err := pki.Open(filepath.Join(p.settings.DataDir, "server", "tls"), pki.Clock{Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	pair, err := files.Authority("ca", "skiff-ca")
	if err != nil {
		t.Fatal(err)
	}
	return pair
}
