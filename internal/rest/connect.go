package rest

import (
	"context"
	stderrors "errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"

	"github.com/skiff-sh/skiff/internal/api"
	"github.com/skiff-sh/skiff/internal/kind"
)

// maxStream is how long a connection to a node lasts at most.
const maxStream = 24 * time.Hour

// pod returns the Pod that a request is about.
func (h *Handler) pod(ctx context.Context, q *request) (*corev1.Pod, error) {
	obj, err := h.API.Get(ctx, api.Request{User: q.user, Kind: kind.Pod, Namespace: q.namespace, Name: q.name})
	if err != nil {
		return nil, err
	}
	return obj.(*corev1.Pod), nil
}

// connect serves pods/exec, attach and portforward: the connection, upgraded
// to SPDY or WebSocket, is passed through to the Pod's node byte by byte.
func (h *Handler) connect(w http.ResponseWriter, q *request) error {
	if q.Method != http.MethodGet && q.Method != http.MethodPost {
		return methodNotAllowed()
	}
	// A WebSocket begins with a GET, but what it does is no reading.
	if q.verb == "get" && !h.authorized(w, q.Request, q.attributes(q.user, "create")) {
		return nil
	}
	if q.subresource == "portforward" { // options are read before there is a Pod to look at
		if _, err := forwardedPorts(q.query["ports"]); err != nil {
			return err
		}
	}
	pod, err := h.pod(q.Context(), q)
	if err != nil {
		return err
	}
	location, err := connectLocation(q, pod)
	if err != nil {
		return err
	}
	if err := h.hasNode(q, pod); err != nil {
		return err
	}
	return h.forward(w, q, location)
}

// hasNode checks that the Pod's node is known. Upstream names it as if it were a
// Pod.
func (h *Handler) hasNode(q *request, pod *corev1.Pod) error {
	_, err := h.API.Get(q.Context(), api.Request{User: q.user, Kind: kind.Node, Name: pod.Spec.NodeName})
	if errors.IsNotFound(err) {
		return errors.NewNotFound(kind.Pod.GroupResource(), pod.Spec.NodeName)
	}
	return err
}

// connectLocation returns where on the node the request goes on.
func connectLocation(q *request, pod *corev1.Pod) (*url.URL, error) {
	location := &url.URL{Scheme: "https", Host: pod.Spec.NodeName + ":10250"}
	target := url.Values{}
	parts := []string{"", q.subresource, pod.Namespace, pod.Name}
	if q.subresource == "portforward" {
		parts[1] = "portForward"
		ports, err := forwardedPorts(q.query["ports"])
		if err != nil {
			return nil, err
		}
		if len(ports) > 0 {
			target.Set("port", strings.Join(ports, ","))
		}
	} else {
		container, err := containerOf(pod, q.query.Get("container"))
		if err != nil {
			return nil, err
		}
		parts = append(parts, container)
		streamOptions(q, target)
	}
	if pod.Spec.NodeName == "" {
		return nil, errors.NewBadRequest(fmt.Sprintf("pod %s does not have a host assigned", pod.Name))
	}
	location.Path = strings.Join(parts, "/")
	location.RawQuery = target.Encode()
	return location, nil
}

// forwardedPorts reads port numbers, of which each value may hold several.
func forwardedPorts(values []string) ([]string, error) {
	var ports []string
	for _, value := range values {
		for _, port := range strings.Split(value, ",") {
			n, err := strconv.ParseUint(port, 10, 16)
			if err != nil {
				return nil, errors.NewBadRequest("cannot convert to []int32: " + err.Error())
			}
			ports = append(ports, strconv.FormatUint(n, 10))
		}
	}
	return ports, nil
}

// streamOptions translates the options of exec and attach into the node's.
func streamOptions(q *request, target url.Values) {
	for _, o := range []struct{ from, to string }{
		{"stdin", "input"}, {"stdout", "output"}, {"stderr", "error"}, {"tty", "tty"},
	} {
		if queryBool(q.query, o.from) {
			target.Set(o.to, "1")
		}
	}
	if q.subresource == "exec" {
		for _, argument := range q.query["command"] {
			target.Add("command", argument)
		}
	}
}

// queryBool reads a boolean as upstream does: there and not "false" or "0".
func queryBool(query url.Values, name string) bool {
	values, ok := query[name]
	return ok && len(values) > 0 && values[0] != "false" && values[0] != "0"
}

// containerOf returns the container that is meant: the named one, or the only one.
func containerOf(pod *corev1.Pod, name string) (string, error) {
	spec := &pod.Spec
	if name != "" {
		if !slices.Contains(containerNames(spec), name) {
			return "", errors.NewBadRequest(fmt.Sprintf("container %s is not valid for pod %s", name, pod.Name))
		}
		return name, nil
	}
	switch len(spec.Containers) {
	case 1:
		return spec.Containers[0].Name, nil
	case 0:
		return "", errors.NewBadRequest(fmt.Sprintf("a container name must be specified for pod %s", pod.Name))
	}
	return "", errors.NewBadRequest(fmt.Sprintf("a container name must be specified for pod %s, choose one of: %s", pod.Name, containerNames(spec)))
}

// containerNames lists init, regular and ephemeral containers.
func containerNames(spec *corev1.PodSpec) []string {
	var all []string
	for i := range spec.InitContainers {
		all = append(all, spec.InitContainers[i].Name)
	}
	for i := range spec.Containers {
		all = append(all, spec.Containers[i].Name)
	}
	for i := range spec.EphemeralContainers {
		all = append(all, spec.EphemeralContainers[i].Name)
	}
	return all
}

// forward passes a request on to a node, and its answer back.
func (h *Handler) forward(w http.ResponseWriter, q *request, location *url.URL) error {
	if !upgrades(q.Request) {
		return errors.NewBadRequest("Upgrade request required")
	}
	if h.Nodes == nil {
		return errNoNodes()
	}
	return h.forwardOver(w, q, h.proxy.transport, location)
}

func errNoNodes() error {
	return errors.NewServiceUnavailable("this server has no way to reach nodes")
}

// upgrades tells requests that take their connection over.
func upgrades(r *http.Request) bool {
	return slices.ContainsFunc(r.Header["Connection"], func(v string) bool { return strings.Contains(strings.ToLower(v), "upgrade") })
}

// forwardOver passes a request on over a transport, upgrades included.
func (h *Handler) forwardOver(w http.ResponseWriter, q *request, transport http.RoundTripper, location *url.URL) error {
	ctx, done := h.longRunning(q.Context(), w, maxStream)
	defer done()
	reverse := &httputil.ReverseProxy{
		Transport:     transport,
		FlushInterval: -1,
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL = location
			p.Out.Host = p.In.Host // as upstream: what is behind may make links of it
			rewriteHeaders(p)
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			if s, ok := w.(*statusWriter); ok && s.wrote {
				return
			}
			if status := errors.APIStatus(nil); !stderrors.As(err, &status) {
				err = fmt.Errorf("error dialing backend: %w", err)
			}
			h.fail(w, q.Request, err)
		},
		ErrorLog: log.New(zapWriter{h.Log}, "", 0),
	}
	reverse.ServeHTTP(w, q.WithContext(ctx))
	return nil
}

// rewriteHeaders makes the headers those that upstream sends on.
func rewriteHeaders(p *httputil.ProxyRequest) {
	// Who asked has been decided here; the node knows only the server.
	p.Out.Header.Del("Authorization")
	for name := range p.Out.Header {
		if strings.HasPrefix(name, "Impersonate-") {
			p.Out.Header.Del(name)
		}
	}
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if values := p.In.Header[name]; values != nil {
			p.Out.Header[name] = slices.Clone(values)
		}
	}
	if client, _, err := net.SplitHostPort(p.In.RemoteAddr); err == nil {
		way := append(p.Out.Header["X-Forwarded-For"], client)
		p.Out.Header["X-Forwarded-For"] = []string{strings.Join(way, ", ")}
	}
}

// zapWriter gives httputil, which knows only the standard logger, a way to ours.
type zapWriter struct{ log *zap.Logger }

func (z zapWriter) Write(data []byte) (int, error) {
	z.log.Debug("connection to node ended", zap.ByteString("reason", data))
	return len(data), nil
}
