package cli

import (
	"context"
	"encoding/json"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/pki"
	"github.com/skiff-sh/skiff/internal/server"
)

// startServer runs a control plane on a data directory until the test ends, and
// returns when its commands are answered.
func startServer(t *testing.T, dataDir string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := config.DefaultServer()
	s.DataDir, s.NodeName, s.DisableAgent = dataDir, "box", true
	s.NodeIPs = []netip.Addr{netip.MustParseAddr("2001:db8::1")}
	s.BindAddress = netip.MustParseAddr("127.0.0.1")
	s.HTTPSListenPort = listener.Addr().(*net.TCPAddr).Port
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	listener.Close()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx, s, zap.NewNop()) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the server: %v", err)
		}
	})
	for deadline := time.Now().Add(20 * time.Second); ; {
		_, err := server.ListTokens(t.Context(), config.NewHost(dataDir))
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		select {
		case err := <-ended:
			ended <- nil
			t.Fatalf("the server ended: %v", err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// A token is made, shown without its secret, and removed.
func TestToken(t *testing.T) {
	dir := t.TempDir()
	startServer(t, dir)
	must := func(args ...string) string {
		t.Helper()
		out, err := run(t.Context(), append([]string{"token", "--data-dir", dir}, args...)...)
		if err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		return out
	}
	if got := must("ls"); got != "TOKEN   TTL   EXPIRES   USAGES   JOINS   DESCRIPTION\n" {
		t.Errorf("an empty list is %q", got)
	}
	if got := must("ls", "-o", "json"); got != "[]\n" {
		t.Errorf("an empty list is %q in JSON", got)
	}
	token, err := pki.ParseToken(must("create", "--once", "--description", "the barn"))
	if err != nil || token.ID == "" || token.Digest == "" {
		t.Fatalf("made %s, %v", token, err)
	}
	join := strings.Fields(must("create", "--ttl", "0", "--print-join"))
	if len(join) != 6 || strings.Join(join[:3], " ") != "skiff agent --server" || !strings.HasPrefix(join[3], "https://[2001:db8::1]:") || join[4] != "--token" {
		t.Fatalf("joining is %v", join)
	}
	forever, err := pki.ParseToken(join[5])
	if err != nil {
		t.Fatal(err)
	}
	list := must("ls")
	for _, want := range []string{token.ID + "   23h", "once    the barn", forever.ID + "   <forever>   <never>", "many    <none>"} {
		if !strings.Contains(list, want) {
			t.Errorf("the list lacks %q:\n%s", want, list)
		}
	}
	var entries []map[string]any
	if err := json.Unmarshal([]byte(must("ls", "-o", "json")), &entries); err != nil || len(entries) != 2 {
		t.Errorf("in JSON: %v, %v", entries, err)
	}
	if both := list + must("ls", "-o", "json"); strings.Contains(both, token.Secret) || strings.Contains(both, forever.Secret) {
		t.Errorf("a list shows a secret:\n%s", both)
	}
	if got := must("rm", token.ID, forever.Text()); got != "removed "+token.ID+"\nremoved "+forever.ID+"\n" {
		t.Errorf("rm says %q", got)
	}
	if _, err := run(t.Context(), "token", "rm", "--data-dir", dir, token.ID); err == nil || !strings.Contains(err.Error(), "there is no bootstrap token") {
		t.Errorf("removed twice: %v", err)
	}
}

// The table says who may still join with a token.
func TestPrintTokens(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	end := now.Add(90 * time.Minute)
	var out strings.Builder
	err := printTokens(&out, []server.Token{
		{ID: "abcdef", Usages: []string{"authentication", "signing"}},
		{ID: "bcdefg", Usages: []string{"authentication"}, Expires: &end, Once: true, Description: "the barn"},
		{ID: "cdefgh", Usages: []string{"authentication"}, Once: true, UsedBy: "barn"},
	}, now)
	if want := `TOKEN    TTL         EXPIRES                USAGES                   JOINS          DESCRIPTION
abcdef   <forever>   <never>                authentication,signing   many           <none>
bcdefg   90m         2026-03-01T13:30:00Z   authentication           once           the barn
cdefgh   <forever>   <never>                authentication           used by barn   <none>
`; err != nil || out.String() != want {
		t.Errorf("got\n%s%v", out.String(), err)
	}
}
