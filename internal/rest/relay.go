package rest

import (
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	utilnet "k8s.io/apimachinery/pkg/util/net"

	"github.com/skiff-sh/skiff/internal/api"
	"github.com/skiff-sh/skiff/internal/kind"
)

// newInside returns the transport to Pods. Their certificates are their own
// affair, as they are to upstream.
func newInside() *http.Transport {
	return &http.Transport{
		DialContext:        (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSClientConfig:    &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // see above
		DisableCompression: true,
		MaxIdleConns:       4,
		IdleConnTimeout:    30 * time.Second,
	}
}

// relay serves the proxy subresource: any request, for a node's API, a Pod, or
// an endpoint of a Service.
func (h *Handler) relay(w http.ResponseWriter, q *request) error {
	if q.tail == "" && !strings.HasSuffix(q.URL.Path, "/") && (q.Method == http.MethodGet || q.Method == http.MethodHead) {
		// Relative links in what is behind need a directory to be relative to.
		location := url.URL{Path: q.URL.Path + "/", RawQuery: q.URL.RawQuery}
		w.Header().Set("Location", location.String())
		w.WriteHeader(http.StatusMovedPermanently)
		return nil
	}
	scheme, name, port, ok := utilnet.SplitSchemeNamePort(q.name)
	if !ok {
		return errors.NewBadRequest(fmt.Sprintf("invalid %s request %q", q.res.kind.Singular, q.name))
	}
	if q.res.kind == kind.Node {
		return h.relayToNode(w, q, name, port)
	}
	var host string
	var err error
	if q.res.kind == kind.Pod {
		host, err = h.podHost(q.Context(), q, name, port)
	} else {
		host, err = h.serviceHost(q.Context(), q, name, port)
	}
	if err != nil {
		return err
	}
	if scheme == "" {
		scheme = "http"
	}
	return h.forwardOver(w, q, h.proxy.inside, q.target(scheme, host))
}

// target is where a relayed request goes on.
func (q *request) target(scheme, host string) *url.URL {
	return &url.URL{Scheme: scheme, Host: host, Path: "/" + q.tail, RawQuery: q.URL.RawQuery}
}

// relayToNode passes a request on to a node's API.
func (h *Handler) relayToNode(w http.ResponseWriter, q *request, name, port string) error {
	node, err := h.node(q.Context(), name)
	if err != nil {
		return err
	}
	own := int(node.Status.DaemonEndpoints.KubeletEndpoint.Port)
	if own == 0 {
		own = defaultNodePort
	}
	if port != "" && port != strconv.Itoa(own) {
		return errors.NewBadRequest(fmt.Sprintf("node %s is reached at port %d only", name, own))
	}
	return h.forward(w, q, q.target("https", name+":"+strconv.Itoa(own)))
}

// podHost returns the address of a Pod: at the port that is named, or at the
// first that its containers name.
func (h *Handler) podHost(ctx context.Context, q *request, name, port string) (string, error) {
	obj, err := h.API.Get(ctx, api.Request{User: q.user, Kind: kind.Pod, Namespace: q.namespace, Name: name})
	if err != nil {
		return "", err
	}
	pod := obj.(*corev1.Pod)
	if port == "" {
		port = firstPort(pod)
	}
	return proxyable(pod.Status.PodIP, port)
}

func firstPort(pod *corev1.Pod) string {
	for i := range pod.Spec.Containers {
		if ports := pod.Spec.Containers[i].Ports; len(ports) > 0 {
			return strconv.Itoa(int(ports[0].ContainerPort))
		}
	}
	return ""
}

// proxyable returns host:port unless the address is one of the server's own
// machine, which a Pod's status must not open to its writer.
func proxyable(address, port string) (string, error) {
	ip := net.ParseIP(address)
	if ip == nil || ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsLinkLocalMulticast() || ip.IsInterfaceLocalMulticast() || ip.IsUnspecified() {
		return "", errors.NewBadRequest("address not allowed")
	}
	if port == "" {
		return address, nil
	}
	return net.JoinHostPort(address, port), nil
}

// serviceHost returns one of the ready endpoints of a Service's port.
func (h *Handler) serviceHost(ctx context.Context, q *request, name, port string) (string, error) {
	r := api.Request{User: q.user, Kind: kind.Service, Namespace: q.namespace, Name: name}
	obj, err := h.API.Get(ctx, r)
	if err != nil {
		return "", err
	}
	if port, err = portName(obj.(*corev1.Service), port); err != nil {
		return "", err
	}
	r.Kind = kind.Endpoints
	obj, err = h.API.Get(ctx, r)
	if err != nil {
		return "", err
	}
	var hosts []string
	for _, subset := range obj.(*corev1.Endpoints).Subsets {
		for _, p := range subset.Ports {
			if p.Name != port {
				continue
			}
			for _, a := range subset.Addresses {
				host, err := proxyable(a.IP, strconv.Itoa(int(p.Port)))
				if err != nil {
					return "", err
				}
				hosts = append(hosts, host)
			}
		}
	}
	if len(hosts) == 0 {
		return "", errors.NewServiceUnavailable(fmt.Sprintf("no endpoints available for service %q", name))
	}
	return hosts[rand.IntN(len(hosts))], nil
}

// portName returns the name of a Service's port that is given by name or number.
func portName(service *corev1.Service, port string) (string, error) {
	number, err := strconv.ParseInt(port, 10, 32)
	if err != nil {
		return port, nil
	}
	for _, p := range service.Spec.Ports {
		if int64(p.Port) == number {
			return p.Name, nil
		}
	}
	return "", errors.NewServiceUnavailable(fmt.Sprintf("no service port %d found for service %q", number, service.Name))
}
