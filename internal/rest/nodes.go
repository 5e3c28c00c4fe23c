package rest

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Nodes reaches the nodes' own API.
type Nodes interface {
	// Dial connects to a node: a TLS connection, ready for HTTP/1.1, over
	// which the server has proven who it is.
	Dial(ctx context.Context, node *corev1.Node) (net.Conn, error)
}

// Direct dials nodes at their addresses.
type Direct struct {
	// TLS has the server's client certificate and the CA of the nodes'.
	TLS *tls.Config
}

const defaultNodePort = 10250

// Dial connects to the node's internal address and its announced port.
func (d Direct) Dial(ctx context.Context, node *corev1.Node) (net.Conn, error) {
	host, err := nodeAddress(node)
	if err != nil {
		return nil, err
	}
	port := int(node.Status.DaemonEndpoints.KubeletEndpoint.Port)
	if port == 0 {
		port = defaultNodePort
	}
	config := d.TLS.Clone()
	config.NextProtos = []string{"http/1.1"}
	if config.ServerName == "" {
		config.ServerName = host
	}
	dialer := tls.Dialer{NetDialer: &net.Dialer{Timeout: 10 * time.Second}, Config: config}
	return dialer.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
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

// proxy carries requests on to nodes.
type proxy struct {
	transport *http.Transport // to nodes
	inside    *http.Transport // to Pods
}

// newProxy returns the proxy of a handler. URLs name nodes by their names; the
// connection is made by whoever knows how to reach them.
func newProxy(h *Handler) *proxy {
	return &proxy{inside: newInside(), transport: &http.Transport{
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
		IdleConnTimeout:    30 * time.Second,
	}}
}

func (p *proxy) close() {
	p.transport.CloseIdleConnections()
	p.inside.CloseIdleConnections()
}
