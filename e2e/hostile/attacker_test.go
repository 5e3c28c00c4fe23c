package hostile

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// attacker is a process that attacks, and what it met with.
type attacker struct {
	config   *rest.Config
	address  string
	admin    *tls.Config // with the administrator's certificate
	stranger *tls.Config // with none

	mu  sync.Mutex // guards met
	met map[string]int
}

// beAttacker is the attacker's main function.
func beAttacker(name string) int {
	i := slices.IndexFunc(attacks, func(a attack) bool { return a.name == name })
	a, err := newAttacker(os.Getenv(kubeconfigVariable))
	if err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), attackTime())
		defer cancel()
		err = attacks[i].run(ctx, a)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(a)
	return 0
}

func newAttacker(kubeconfig string) (*attacker, error) {
	c, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	a := &attacker{config: c, met: map[string]int{}, address: strings.TrimPrefix(c.Host, "https://")}
	if a.admin, err = rest.TLSConfigFor(c); err != nil {
		return nil, err
	}
	a.admin.ServerName = "127.0.0.1"
	a.stranger = a.admin.Clone()
	a.stranger.Certificates, a.stranger.GetClientCertificate = nil, nil
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return nil, err
	}
	files.Cur = files.Max
	return a, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &files)
}

// meet counts what happened.
func (a *attacker) meet(what string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.met[what]++
}

func (a *attacker) String() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var parts []string
	for _, what := range slices.Sorted(maps.Keys(a.met)) {
		parts = append(parts, fmt.Sprintf("%s: %d", what, a.met[what]))
	}
	return strings.Join(parts, ", ")
}

// many runs something n times, so many at once, until the context ends.
func (a *attacker) many(ctx context.Context, n, atOnce int, do func(ctx context.Context, i int)) {
	var group sync.WaitGroup
	next := make(chan int)
	for range min(n, atOnce) {
		group.Go(func() {
			for i := range next {
				do(ctx, i)
			}
		})
	}
	for i := range n {
		select {
		case next <- i:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(next)
	group.Wait()
}

// again does something over and over, so many at once, until the context ends.
func (a *attacker) again(ctx context.Context, atOnce int, do func(ctx context.Context, i int)) {
	var group sync.WaitGroup
	for i := range atOnce {
		group.Go(func() {
			for ctx.Err() == nil {
				do(ctx, i)
			}
		})
	}
	group.Wait()
}

// dial opens a connection that ends with the context. Without a TLS configuration
// it is a bare one.
func (a *attacker) dial(ctx context.Context, c *tls.Config, protocols ...string) (net.Conn, error) {
	raw, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", a.address)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { _ = raw.Close() })
	if c == nil {
		return raw, nil
	}
	if len(protocols) > 0 {
		c = c.Clone()
		c.NextProtos = protocols
	}
	conn := tls.Client(raw, c)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, err
	}
	return conn, nil
}

// web is a client of its own for HTTP/1.1, or for both where asked for.
func (a *attacker) web(c *tls.Config, http2 bool) *http.Client {
	c = c.Clone()
	if !http2 {
		c.NextProtos = []string{"http/1.1"}
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: c, ForceAttemptHTTP2: http2, DisableCompression: true, MaxIdleConnsPerHost: 100}}
}

// request is what send sends.
type request struct {
	method, path, contentType string
	body                      io.Reader
	length                    int64 // -1: chunked
	header                    http.Header
}

// send makes a request, reads the answer and counts it.
func (a *attacker) send(ctx context.Context, web *http.Client, r request) {
	q, err := http.NewRequestWithContext(ctx, r.method, "https://"+a.address+r.path, r.body)
	if err != nil {
		a.meet(err.Error())
		return
	}
	if r.length != 0 {
		q.ContentLength = r.length
	}
	maps.Copy(q.Header, r.header)
	if r.contentType != "" {
		q.Header.Set("Content-Type", r.contentType)
	}
	answer, err := web.Do(q)
	if err != nil {
		if ctx.Err() == nil {
			a.meet("no answer")
		}
		return
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil && ctx.Err() == nil {
		a.meet(fmt.Sprintf("%d, cut short", answer.StatusCode))
		return
	}
	a.meet(fmt.Sprint(answer.StatusCode))
}
