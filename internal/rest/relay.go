package rest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	utilnet "k8s.io/apimachinery/pkg/util/net"

	"github.com/skiff-sh/skiff/internal/api"
	"github.com/skiff-sh/skiff/internal/kind"
)

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
	var to inNetwork
	var err error
	if q.res.kind == kind.Pod {
		to, err = h.podHost(q.Context(), q, name, port)
	} else {
		to, err = h.serviceHost(q.Context(), q, name, port)
	}
	if err != nil {
		return err
	}
	if scheme == "" {
		scheme = "http"
	}
	return h.relayOver(w, q, h.proxy.into(to.node), q.target(scheme, to.host))
}

// inNetwork is an address in a node's network; no node: in the server's own.
type inNetwork struct{ node, host string }

// relayOver passes a request on over a transport to what appears below a path of
// this server.
func (h *Handler) relayOver(w http.ResponseWriter, q *request, transport http.RoundTripper, location *url.URL) error {
	if !upgrades(q.Request) {
		transport = published{transport, strings.TrimSuffix(q.URL.Path, location.Path)}
	}
	return h.forwardOver(w, q, transport, location)
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
	own := nodePort(node)
	if port != "" && port != own {
		return errors.NewBadRequest(fmt.Sprintf("node %s is reached at port %s only", name, own))
	}
	if h.Nodes == nil {
		return errNoNodes()
	}
	return h.relayOver(w, q, h.proxy.transport, q.target("https", net.JoinHostPort(name, own)))
}

// podHost returns the address of a Pod: at the port that is named, or at the
// first that its containers name.
func (h *Handler) podHost(ctx context.Context, q *request, name, port string) (inNetwork, error) {
	obj, err := h.API.Get(ctx, api.Request{User: q.user, Kind: kind.Pod, Namespace: q.namespace, Name: name})
	if err != nil {
		return inNetwork{}, err
	}
	pod := obj.(*corev1.Pod)
	if port == "" {
		port = firstPort(pod)
	}
	host, err := proxyable(pod.Status.PodIP, port)
	return inNetwork{pod.Spec.NodeName, host}, err
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
	if port == "" && ip.To4() == nil {
		return "[" + address + "]", nil
	}
	if port == "" {
		return address, nil
	}
	return net.JoinHostPort(address, port), nil
}

// serviceHost returns one of the ready endpoints of a Service's port.
func (h *Handler) serviceHost(ctx context.Context, q *request, name, port string) (inNetwork, error) {
	r := api.Request{User: q.user, Kind: kind.Service, Namespace: q.namespace, Name: name}
	obj, err := h.API.Get(ctx, r)
	if err != nil {
		return inNetwork{}, err
	}
	if port, err = portName(obj.(*corev1.Service), port); err != nil {
		return inNetwork{}, err
	}
	r.Kind = kind.Endpoints
	obj, err = h.API.Get(ctx, r)
	if errors.IsNotFound(err) {
		err = errors.NewNotFound(kind.Service.GroupResource(), name) // as upstream says
	}
	if err != nil {
		return inNetwork{}, err
	}
	var found []corev1.EndpointAddress
	var ports []int32 // of each
	for _, subset := range obj.(*corev1.Endpoints).Subsets {
		for _, p := range subset.Ports {
			if p.Name == port {
				found = append(found, subset.Addresses...)
				ports = append(ports, slices.Repeat([]int32{p.Port}, len(subset.Addresses))...)
			}
		}
	}
	if len(found) == 0 {
		return inNetwork{}, errors.NewServiceUnavailable(fmt.Sprintf("no endpoints available for service %q", name))
	}
	i := rand.IntN(len(found))
	host, err := proxyable(found[i].IP, strconv.Itoa(int(ports[i])))
	return inNetwork{h.nodeOf(ctx, q, &found[i]), host}, err
}

// nodeOf returns in which node's network an endpoint is, "" where nothing says so.
func (h *Handler) nodeOf(ctx context.Context, q *request, a *corev1.EndpointAddress) string {
	if a.NodeName != nil {
		return *a.NodeName
	}
	if a.TargetRef == nil || a.TargetRef.Kind != kind.Pod.Kind {
		return ""
	}
	obj, err := h.API.Get(ctx, api.Request{User: q.user, Kind: kind.Pod, Namespace: q.namespace, Name: a.TargetRef.Name})
	if err != nil {
		return "" // then nobody knows, and the address has to do
	}
	return obj.(*corev1.Pod).Spec.NodeName
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
