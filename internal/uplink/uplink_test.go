package uplink

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"crypto/tls"

	"github.com/skiff-sh/skiff/internal/auth"
	"github.com/skiff-sh/skiff/internal/pki"
)

const (
	day  = 24 * time.Hour
	year = 365 * day
)

// pipes is a listener in memory.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func newPipes() *pipes { return &pipes{make(chan net.Conn), make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { close(p.closed); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipes) connect(ctx context.Context, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.conns <- theirs:
		return ours, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// cluster is a server and a node of it in one bubble. Certificates are signed and
// judged by clocks that the test sets.
type cluster struct {
	*testing.T
	ca      pki.Pair
	server  pki.Clock // the authority's and the server's
	serving *pki.Identity
	client  *pki.Identity
	uplink  *Uplink
	dials   atomic.Int64
	events  chan string // for who watches

	theirs, ours atomic.Int64 // how far the clocks are ahead of the bubble's
}

func newCluster(t *testing.T, change ...func(*cluster)) *cluster {
	t.Helper()
	c := &cluster{T: t, events: make(chan string)}
	for _, fn := range change {
		fn(c)
	}
	c.server = pki.Clock{Now: func() time.Time { return time.Now().Add(time.Duration(c.theirs.Load())) }, Build: time.Now()}
	var err error
	if c.ca, err = pki.NewAuthority("ca", c.server); err != nil {
		t.Fatal(err)
	}
	c.serving, c.client = pki.NewIdentity(c.serverPair()), pki.NewIdentity(c.clientPair())
	listener := newPipes()
	certificates := auth.NewCertificates(c.ca.Pool(), c.server.Latest)
	server := &http.Server{
		TLSConfig: &tls.Config{
			MinVersion: tls.VersionTLS12, GetCertificate: c.serving.GetCertificate, ClientAuth: tls.RequestClientCert, Time: c.server.Latest,
		},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Date", c.server.Now().UTC().Format(http.TimeFormat))
			user, ok, err := certificates.Authenticate(r)
			if !ok {
				http.Error(w, fmt.Sprint(err), http.StatusUnauthorized)
				return
			}
			if r.URL.Path == "/watch" {
				c.serveWatch(w, r)
				return
			}
			fmt.Fprint(w, user.Extra["authentication.kubernetes.io/credential-id"])
		}),
	}
	ended := make(chan error, 1)
	go func() { ended <- server.ServeTLS(listener, "", "") }()
	past, err := pki.OpenPast(filepath.Join(t.TempDir(), "clock"))
	if err != nil {
		t.Fatal(err)
	}
	c.uplink, err = New(Config{
		Servers: []string{"https://192.0.2.1:6443"}, Authority: c.ca.Pool(), Identity: c.client,
		Clock: pki.Clock{Now: func() time.Time { return time.Now().Add(time.Duration(c.ours.Load())) }, Build: c.server.Build, Past: past},
		Connect: func(ctx context.Context, address string) (net.Conn, error) {
			c.dials.Add(1)
			return listener.connect(ctx, address)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.uplink.current().CloseIdleConnections()
		_ = server.Close()
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return c
}

func (c *cluster) serveWatch(w http.ResponseWriter, r *http.Request) {
	flush := func() { _ = http.NewResponseController(w).Flush() }
	flush()
	for {
		select {
		case e := <-c.events:
			fmt.Fprintln(w, e)
			flush()
		case <-r.Context().Done():
			return
		}
	}
}

func (c *cluster) issue(s pki.Subject) pki.Pair {
	c.Helper()
	p, err := c.ca.Issue(s, c.server)
	if err != nil {
		c.Fatal(err)
	}
	return p
}

func (c *cluster) serverPair() pki.Pair {
	var addresses []netip.Addr
	for a := netip.MustParseAddr("192.0.2.1"); len(addresses) < 4; a = a.Next() {
		addresses = append(addresses, a)
	}
	return c.issue(pki.Subject{CommonName: "server", Addresses: addresses, Server: true})
}

func (c *cluster) clientPair() pki.Pair {
	return c.issue(pki.Subject{CommonName: "system:node:n1", Organizations: []string{"system:nodes"}, Client: true})
}

// get asks who it is that asks.
func (c *cluster) get(path string) (*http.Response, error) {
	c.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c.Cleanup(cancel)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.uplink.URL()+path, nil)
	if err != nil {
		c.Fatal(err)
	}
	return c.uplink.RoundTrip(request)
}

// whoami returns the certificate by which the server knows the node now.
func (c *cluster) whoami() string {
	c.Helper()
	answer, err := c.get("/")
	if err != nil {
		c.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		c.Fatalf("%s: %s (%v)", answer.Status, text, err)
	}
	return string(text)
}

// pass lets both clocks go on by months, which the bubble's need not: it would
// see the connection being asked every 15 seconds whether it is there.
func (c *cluster) pass(d time.Duration) {
	c.theirs.Add(int64(d))
	c.ours.Add(int64(d))
}

func TestRenewalDropsNoConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		before := c.whoami()
		watch, err := c.get("/watch")
		if err != nil {
			t.Fatal(err)
		}
		defer watch.Body.Close()
		lines := bufio.NewReader(watch.Body)
		see := func(event string) {
			t.Helper()
			c.events <- event
			if line, err := lines.ReadString('\n'); err != nil || line != event+"\n" {
				t.Fatalf("watch: %q, %v", line, err)
			}
		}
		see("with the first certificate")
		if n := c.dials.Load(); n != 1 {
			t.Errorf("%d connections", n)
		}

		c.pass(8*30*day + day)
		c.client.Set(c.clientPair())
		c.serving.Set(c.serverPair())
		see("renewed")
		after := c.whoami()
		if after == before {
			t.Error("the server still knows the old certificate")
		}
		if n := c.dials.Load(); n != 2 {
			t.Errorf("%d connections", n)
		}

		c.pass(6 * 30 * day) // the first one has ended
		see("the old one has ended")
		if c.whoami() != after {
			t.Error("another certificate")
		}
		time.Sleep(10 * time.Minute) // idle connections close, others do not
		synctest.Wait()
		see("still there")
		if c.whoami() != after {
			t.Error("another certificate")
		}
	})
}

// Without renewal the server refuses requests on the connection that it has.
func TestServerJudgesEachRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.whoami()
		c.pass(year + day)
		answer, err := c.get("/")
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		if answer.StatusCode != http.StatusUnauthorized {
			t.Errorf("answer %s", answer.Status)
		}
	})
}

// A node gets in whatever its clock shows, and learns the time.
func TestWrongClocks(t *testing.T) {
	for name, wrong := range map[string]time.Duration{
		"two years behind": -2 * year, "1970": -30 * year, "two years ahead": 2 * year, "fifty years ahead": 50 * year,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, func(c *cluster) { c.theirs.Store(int64(90 * day)) }) // since the build
				c.ours.Store(int64(90*day + wrong))
				c.whoami()
				if ahead, ok := c.uplink.Time().Ahead(); !ok || (ahead-wrong).Abs() > time.Second {
					t.Errorf("%s ahead", ahead)
				}
				if off := c.uplink.Clock.Latest().Sub(c.server.Now()); off.Abs() > time.Second {
					t.Errorf("the latest time known is %s off", off)
				}
				c.ours.Store(int64(90 * day)) // NTP
				c.whoami()
				if ahead, _ := c.uplink.Time().Ahead(); ahead.Abs() > time.Second {
					t.Errorf("%s ahead after the clock was set", ahead)
				}
			})
		})
	}
}

// What was learnt keeps out who comes with a certificate that has ended.
func TestEndedServerIsRefused(t *testing.T) {
	for name, change := range map[string]func(*cluster){
		"by what was heard": func(c *cluster) { c.uplink.Clock.Past.Hear(c.server.Now().Add(2*year), c.server.Now().Add(3*year)) },
		"by a clock that is kept right": func(c *cluster) {
			c.ours.Store(int64(2 * year))
			c.uplink.Clock.Kept = func() bool { return true }
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t)
				change(c)
				_, err := c.get("/")
				if err == nil || !strings.Contains(err.Error(), "the certificate of server ended on 2000-12-31, and it is 2001-12-31 by") {
					t.Errorf("error %v", err)
				}
			})
		})
	}
}
