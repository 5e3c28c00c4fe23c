// Package uplink is a node's way to the cluster: one transport, which all of the
// node's clients share, to whichever of the servers answers.
//
// An Uplink is an http.RoundTripper that presents the node's Identity, which may
// be replaced at any time, and Dial opens a connection of its own for what takes
// one over. Its Time is what the servers' answers tell of their clock, and it has
// the pki.Clock hear of it. The invariant: nothing is sent to, and nothing believed
// of, a server whose certificate does not lead to the cluster's authority. The
// package knows nothing of what is asked.
package uplink

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/skiff-sh/skiff/internal/pki"
)

// Config is what an Uplink is made from.
type Config struct {
	Servers   []string // https://HOST:PORT, tried in turn
	Authority *x509.CertPool
	Identity  *pki.Identity // nil: none is presented
	Clock     pki.Clock     // certificates are judged by it, and its Past hears the servers' time
	// Connect is optional: it opens a TCP connection to HOST:PORT.
	Connect func(ctx context.Context, address string) (net.Conn, error)
}

// How long a connection attempt may take, and after how long without a word a
// connection is asked if it is still there, and given up.
const (
	dialTimeout = 10 * time.Second
	pingAfter   = 15 * time.Second
	pingTimeout = 10 * time.Second
	idleTimeout = 90 * time.Second
)

// Uplink is the way to the servers. It is safe for concurrent use.
type Uplink struct {
	Config
	time        *Time
	servers     servers
	connections connections

	mu        sync.Mutex // guards what follows
	transport *http.Transport
	changed   <-chan struct{} // closed when transport presents an old identity; nil: never
}

// New returns the uplink to some servers. The error names the URL that is none.
func New(c Config) (*Uplink, error) {
	if len(c.Servers) == 0 {
		return nil, errors.New("there is no server to connect to: name one with --server")
	}
	if c.Connect == nil {
		c.Connect = connect
	}
	u := &Uplink{Config: c, time: NewTime(c.Clock.Now)}
	for _, text := range c.Servers {
		host, err := hostOf(text)
		if err != nil {
			return nil, err
		}
		u.servers.named = append(u.servers.named, host)
	}
	return u, nil
}

// Learn tells of servers that the cluster names itself: they are tried behind
// those that a person named, instead of what was told before. URLs that are none
// are passed over.
func (u *Uplink) Learn(urls []string) {
	var hosts []string
	for _, text := range urls {
		if host, err := hostOf(text); err == nil {
			hosts = append(hosts, host)
		}
	}
	u.servers.learn(hosts)
}

// URL is what clients name as the server; any of them may answer.
func (u *Uplink) URL() string { return u.Servers[0] }

// Time is what is known of the servers' clock.
func (u *Uplink) Time() *Time { return u.time }

// RoundTrip implements http.RoundTripper.
func (u *Uplink) RoundTrip(r *http.Request) (*http.Response, error) {
	sent := time.Now()
	answer, err := u.current().RoundTrip(r)
	if err == nil {
		u.listen(answer, sent)
	}
	return answer, err
}

// listen notes the time that an answer tells.
func (u *Uplink) listen(answer *http.Response, sent time.Time) {
	if answer.TLS == nil || len(answer.TLS.PeerCertificates) == 0 {
		return
	}
	date, err := http.ParseTime(answer.Header.Get("Date"))
	if err != nil {
		return
	}
	u.time.Hear(date, sent, time.Now())
	u.Clock.Past.Hear(date, answer.TLS.PeerCertificates[0].NotAfter)
}

// current returns the transport for new requests. After the identity was replaced
// that is a new one: on the connections of the old one the server knows us by the
// old certificate, and would refuse what comes when that ends. What is under way
// on them ends there, however long it takes.
func (u *Uplink) current() *http.Transport {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.transport != nil {
		select {
		case <-u.changed:
			u.transport.CloseIdleConnections()
		default:
			return u.transport
		}
	}
	if u.Identity != nil {
		_, u.changed = u.Identity.Watch()
	}
	u.transport = &http.Transport{
		DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return u.dial(ctx, "h2", "http/1.1")
		},
		ForceAttemptHTTP2: true,
		IdleConnTimeout:   idleTimeout,
		HTTP2:             &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
	}
	return u.transport
}

// Dial opens a connection for HTTP/1.1 to the server that answered last, or to
// the next that does.
func (u *Uplink) Dial(ctx context.Context) (net.Conn, error) { return u.dial(ctx, "http/1.1") }

func (u *Uplink) dialOne(ctx context.Context, host string, protocols []string) (net.Conn, error) {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: u.Authority, ServerName: name, NextProtos: protocols, Time: u.Clock.Latest,
	}
	if u.Identity != nil {
		config.GetClientCertificate = u.Identity.GetClientCertificate
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	raw, err := u.Connect(ctx, host)
	if err != nil {
		return nil, err
	}
	raw = u.connections.add(raw)
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, u.Clock.Explain(err)
	}
	return conn, nil
}

func connect(ctx context.Context, address string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", address)
}
