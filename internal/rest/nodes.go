package rest

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/skiff-sh/skiff/internal/auth"
	"github.com/skiff-sh/skiff/internal/tunnel"
)

// Nodes reaches the nodes' own API.
type Nodes interface {
	// Dial connects to a node: a TLS connection, ready for HTTP/1.1, over
	// which both have proven who they are, the node by its name.
	Dial(ctx context.Context, node *corev1.Node) (net.Conn, error)
}

// Inside connects to an address in a node's network: one of its Pods', or its
// own. Without a node the address is anybody's.
type Inside func(ctx context.Context, node, network, address string) (net.Conn, error)

const (
	defaultNodePort = 10250
	dialTimeout     = 10 * time.Second
	// triedDirect is how long a node that has no tunnel may take to answer at its
	// address.
	triedDirect = 3 * time.Second
)

// Direct dials nodes at their addresses.
type Direct struct {
	// TLS has the server's client certificate and the CA of the nodes'.
	TLS *tls.Config
}

// Dial connects to the node's internal address and its announced port.
func (d Direct) Dial(ctx context.Context, node *corev1.Node) (net.Conn, error) {
	host, err := nodeAddress(node)
	if err != nil {
		return nil, err
	}
	conn, err := Outside(ctx, "", "tcp", net.JoinHostPort(host, nodePort(node)))
	if err != nil {
		return nil, err
	}
	return d.secure(ctx, conn, node)
}

// secure makes sure that a connection leads to a node: to its name, for its
// addresses change.
func (d Direct) secure(ctx context.Context, conn net.Conn, node *corev1.Node) (net.Conn, error) {
	config := d.TLS.Clone()
	config.NextProtos = []string{"http/1.1"}
	config.ServerName = node.Name
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	secured := tls.Client(conn, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("%s: %w", node.Name, err)
	}
	return secured, nil
}

// nodeAddress prefers IP addresses: names need a resolver that knows them,
// which a box at the edge may not have.
func nodeAddress(node *corev1.Node) (string, error) {
	for _, want := range []corev1.NodeAddressType{corev1.NodeInternalIP, corev1.NodeExternalIP, corev1.NodeInternalDNS, corev1.NodeHostName} {
		for _, a := range node.Status.Addresses {
			if a.Type == want {
				return a.Address, nil
			}
		}
	}
	return "", fmt.Errorf("no preferred addresses found; known addresses: %v", node.Status.Addresses)
}

// nodePort returns the port of a node's own API.
func nodePort(node *corev1.Node) string {
	if port := node.Status.DaemonEndpoints.KubeletEndpoint.Port; port != 0 {
		return strconv.Itoa(int(port))
	}
	return strconv.Itoa(defaultNodePort)
}

// Outside is the Inside of a server that is in the network of all its nodes.
func Outside(ctx context.Context, _, network, address string) (net.Conn, error) {
	return (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, network, address)
}

// Tunnels reaches nodes through the tunnels that they open.
type Tunnels struct {
	Hub    *tunnel.Hub
	Direct Direct
	// Own is the node beside this server, which needs no tunnel; "" for none.
	Own string
}

// Dial connects through the node's tunnel. One that has none is also tried at its
// address: whether it is the right one, its certificate says.
func (t Tunnels) Dial(ctx context.Context, node *corev1.Node) (net.Conn, error) {
	switch {
	case node.Name == t.Own:
		return t.Direct.Dial(ctx, node)
	case t.Hub.Connected(node.Name):
		return t.through(ctx, node)
	}
	return t.either(ctx, node)
}

// through connects to the node's API where it is always found: on its loopback.
func (t Tunnels) through(ctx context.Context, node *corev1.Node) (net.Conn, error) {
	conn, err := t.Hub.Dial(ctx, node.Name, "tcp", net.JoinHostPort("127.0.0.1", nodePort(node)))
	if err != nil {
		return nil, err
	}
	return t.Direct.secure(ctx, conn, node)
}

// either waits for the node's tunnel and meanwhile tries its address.
func (t Tunnels) either(ctx context.Context, node *corev1.Node) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type outcome struct {
		conn net.Conn
		err  error
	}
	outcomes := make(chan outcome, 2)
	var attempts sync.WaitGroup
	var away error
	attempts.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, triedDirect)
		defer cancel()
		conn, err := t.Direct.Dial(ctx, node)
		outcomes <- outcome{conn, err}
	})
	attempts.Go(func() {
		conn, err := t.through(ctx, node)
		away = err
		outcomes <- outcome{conn, err}
	})
	first := <-outcomes
	if first.err == nil {
		cancel()
	}
	second := <-outcomes
	attempts.Wait()
	switch {
	case first.err == nil && second.err == nil:
		_ = second.conn.Close()
		return first.conn, nil
	case first.err == nil:
		return first.conn, nil
	case second.err == nil:
		return second.conn, nil
	}
	return nil, away
}

// Inside connects to what only the node reaches through its tunnel. Nothing else
// would do: what a node says its Pods' addresses are must not lead a server to
// machines of its own network.
func (t Tunnels) Inside(ctx context.Context, node, network, address string) (net.Conn, error) {
	if node == "" || node == t.Own {
		return Outside(ctx, node, network, address)
	}
	return t.Hub.Dial(ctx, node, network, address)
}

// proxy carries requests on to nodes and what is in their networks.
type proxy struct {
	transport *http.Transport // to nodes
	dial      Inside

	mu     sync.Mutex         // guards what follows
	inside map[string]*inside // by node; "" is none
}

// inside is the transport into one node's network. The same address may be
// another's in another node's.
type inside struct {
	*http.Transport
	used time.Time
}

const (
	idleToNode = 30 * time.Second
	idleInside = 30 * time.Second
)

// newProxy returns the proxy of a handler. URLs name nodes by their names; the
// connection is made by whoever knows how to reach them.
func newProxy(h *Handler) *proxy {
	p := &proxy{dial: h.Inside, inside: map[string]*inside{}}
	if p.dial == nil {
		p.dial = Outside
	}
	p.transport = &http.Transport{
		DialTLSContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			name, _, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			node, err := h.node(ctx, name)
			if err != nil {
				return nil, err
			}
			return h.Nodes.Dial(ctx, node)
		},
		DisableCompression: true, // bytes pass as they are
		MaxIdleConns:       8,
		IdleConnTimeout:    idleToNode,
	}
	return p
}

// into returns the transport into a node's network. Certificates there are their
// owners' affair, as they are to upstream.
func (p *proxy) into(node string) http.RoundTripper {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	known := p.inside[node]
	if known == nil {
		for name, other := range p.inside { // those whose last connection is closed by now
			if now.Sub(other.used) > 2*idleInside {
				delete(p.inside, name)
			}
		}
		known = &inside{Transport: &http.Transport{
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				return p.dial(ctx, node, network, address)
			},
			TLSClientConfig:    &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // see above
			DisableCompression: true,
			MaxIdleConns:       4,
			IdleConnTimeout:    idleInside,
		}}
		p.inside[node] = known
	}
	known.used = now
	return known
}

func (p *proxy) close() {
	p.transport.CloseIdleConnections()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, i := range p.inside {
		i.CloseIdleConnections()
	}
}

// takeTunnel hands a node's tunnel over. Nobody has one but nodes.
func (h *Handler) takeTunnel(w http.ResponseWriter, r *http.Request, user auth.User) {
	node, ok := strings.CutPrefix(user.Name, "system:node:")
	if !ok || node == "" || !slices.Contains(user.Groups, auth.GroupNodes) {
		a := auth.Attributes{User: user, Verb: "get", Path: r.URL.Path}
		h.fail(w, r, auth.Forbidden(a, "only nodes open tunnels"))
		return
	}
	h.Tunnel(w, r, node)
}
