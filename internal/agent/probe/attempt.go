package probe

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// maxBody is how much of an answer is read.
const maxBody = 10 << 10

func execute(ctx context.Context, command []string, t Target, timeout time.Duration) Result {
	output, code, err := t.Exec(ctx, command)
	switch {
	case ctx.Err() == context.DeadlineExceeded:
		return Result{Output: fmt.Sprintf("command timed out: %q timed out after %s", strings.Join(command, " "), timeout)}
	case err != nil:
		return Result{Output: err.Error(), Err: err}
	}
	return Result{OK: code == 0, Output: output}
}

// Port resolves a port by number or by the name it has in the container.
func Port(p intstr.IntOrString, ports []corev1.ContainerPort) (int, error) {
	n := p.IntValue()
	if p.Type == intstr.String {
		for _, c := range ports {
			if c.Name == p.StrVal {
				n = int(c.ContainerPort)
			}
		}
		if n == 0 {
			return 0, fmt.Errorf("couldn't find port: %s", p.StrVal)
		}
	}
	if n <= 0 || n > 65535 {
		return 0, fmt.Errorf("invalid port number: %v", n)
	}
	return n, nil
}

// Request is the HTTP request of a probe or hook.
func Request(ctx context.Context, a *corev1.HTTPGetAction, t Target, agent string) (*http.Request, error) {
	port, err := Port(a.Port, t.Ports)
	if err != nil {
		return nil, err
	}
	host := a.Host
	if host == "" {
		host = t.Host
	}
	scheme := strings.ToLower(string(a.Scheme))
	if scheme == "" {
		scheme = "http"
	}
	u, err := url.Parse(a.Path)
	if err != nil {
		u = &url.URL{Path: a.Path}
	}
	u.Scheme, u.Host = scheme, net.JoinHostPort(host, strconv.Itoa(port))
	if !strings.HasPrefix(u.Path, "/") {
		u.Path = "/" + u.Path
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	for _, h := range a.HTTPHeaders {
		req.Header.Add(h.Name, h.Value)
		if http.CanonicalHeaderKey(h.Name) == "Host" {
			req.Host = h.Value
		}
	}
	if _, ok := req.Header["User-Agent"]; !ok {
		req.Header.Set("User-Agent", agent)
	}
	if req.Header.Get("User-Agent") == "" {
		req.Header["User-Agent"] = nil // an empty one means none
	}
	if _, ok := req.Header["Accept"]; !ok {
		req.Header.Set("Accept", "*/*")
	}
	return req, nil
}

// Client makes the connections of probes and hooks: no proxy, no certificate
// checks, no connection kept, no redirect to another host followed.
func Client() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			TLSClientConfig:    &tls.Config{InsecureSkipVerify: true},
			DisableKeepAlives:  true,
			DisableCompression: true,
			Proxy:              nil,
		},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if req.URL.Hostname() != via[0].URL.Hostname() {
				return http.ErrUseLastResponse
			}
			if len(via) >= 10 {
				return errors.New("stopped after 10 redirects")
			}
			return nil
		},
	}
}

func httpGet(ctx context.Context, a *corev1.HTTPGetAction, t Target) Result {
	req, err := Request(ctx, a, t, "kube-probe/1.36")
	if err != nil {
		return Result{Output: err.Error(), Err: err}
	}
	resp, err := Client().Do(req)
	if err != nil {
		return Result{Output: err.Error()}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return Result{Output: err.Error()}
	}
	if resp.StatusCode >= 200 && resp.StatusCode < 400 {
		return Result{OK: true, Output: string(body)}
	}
	return Result{Output: fmt.Sprintf("HTTP probe failed with statuscode: %d", resp.StatusCode)}
}

func tcpSocket(ctx context.Context, a *corev1.TCPSocketAction, t Target) Result {
	port, err := Port(a.Port, t.Ports)
	if err != nil {
		return Result{Output: err.Error(), Err: err}
	}
	host := a.Host
	if host == "" {
		host = t.Host
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return Result{Output: err.Error()}
	}
	return Result{OK: conn.Close() == nil}
}

// Output collects what a probe's command prints, up to a limit.
type Output struct{ buf bytes.Buffer }

// Write never fails; what is too much is dropped.
func (o *Output) Write(p []byte) (int, error) {
	if room := maxBody - o.buf.Len(); room > 0 {
		o.buf.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

func (o *Output) String() string { return o.buf.String() }
