package hostile

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// hugeHeaders asks with selectors, queries and headers of nearly a megabyte.
func hugeHeaders(ctx context.Context, a *attacker) error {
	const size = 900 << 10
	list := func(parameter, head, each, tail string) string {
		// Escaped by hand: what may stand in a query as it is stays as short as it is.
		return configMaps + "?" + parameter + "=" + head + strings.Repeat(each, (size-len(head))/len(each)) + tail
	}
	queries := []string{
		list("labelSelector", "a%20in%20(x", ",x", ")"), list("labelSelector", "a", ",a", ""), list("labelSelector", "a", ",!a", ""),
		list("labelSelector", "a=b", ",a=b", ""), list("fieldSelector", "metadata.name=a", ",metadata.name=a", ""),
		list("fieldSelector", "a", "%5C%5C", ""), list("labelSelector", "(", "(", ""), list("labelSelector", "a", "%20", ""),
		list("continue", "a", "a", ""), list("a", "b", "&a=b", ""), list("a", "b", "&a", ""), list("resourceVersion", "1", "1", ""),
		list("limit", "1", "1", ""), list("watch", "1&labelSelector=a", ",a", ""),
		configMaps + "/" + strings.Repeat("a", size), "/" + strings.Repeat("a/", size/2),
	}
	headers := []http.Header{
		{"Accept": {strings.Repeat("application/json;a=b,", size/21)}}, {"Accept": {strings.Repeat("a,", size/2)}},
		{"Authorization": {"Bearer " + strings.Repeat("a.", size/2)}}, {"Authorization": {"Basic " + strings.Repeat("a", size)}},
		{"User-Agent": {strings.Repeat("a", size)}}, {"Content-Type": {strings.Repeat("a;", size/2)}},
		{"Impersonate-Group": strings.Split(strings.Repeat("a,", 20_000), ",")}, {"Cookie": {strings.Repeat("a=b;", size/4)}},
	}
	var requests []request
	for _, q := range queries {
		requests = append(requests, request{method: "GET", path: q}, request{method: "DELETE", path: q})
	}
	for _, h := range headers {
		requests = append(requests, request{method: "GET", path: configMaps, header: h}, request{method: "PATCH", path: victim, header: h})
	}
	webs := []*http.Client{a.web(a.admin, false), a.web(a.admin, true), a.web(a.stranger, false), a.web(a.stranger, true)}
	a.many(ctx, len(webs)*len(requests), 16, func(ctx context.Context, i int) {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second) // the one that watches
		defer cancel()
		r := requests[i/len(webs)]
		if _, err := url.Parse(r.path); err == nil {
			a.send(ctx, webs[i%len(webs)], r)
		}
	})
	return nil
}

// connections is how many of them come at once.
func connections() int {
	if full {
		return 10_000
	}
	return 500
}

// hold opens many connections, begins something on each, and goes on a little with
// all of them until the time is over.
func (a *attacker) hold(ctx context.Context, n int, c *tls.Config, begin string, more func(i int) string) error {
	a.many(ctx, n, 64, func(ctx context.Context, i int) {
		conn, err := a.dial(ctx, c, "http/1.1")
		if err != nil {
			if ctx.Err() == nil {
				a.meet("refused")
			}
			return
		}
		if _, err := fmt.Fprint(conn, begin); err != nil {
			a.meet("closed at once")
			return
		}
		a.meet("opened")
		context.AfterFunc(ctx, func() { _ = conn.Close() })
		if more == nil {
			return
		}
		var step func()
		step = func() {
			if _, err := fmt.Fprint(conn, more(i)); err != nil {
				if ctx.Err() == nil {
					a.meet("closed later")
				}
				return
			}
			if ctx.Err() == nil {
				time.AfterFunc(time.Second, step)
			}
		}
		time.AfterFunc(time.Second, step)
	})
	<-ctx.Done()
	return nil
}

// silentConnections never say a word, or only the beginning of a handshake.
func silentConnections(ctx context.Context, a *attacker) error {
	return a.hold(ctx, connections(), nil, "\x16\x03\x01\x02\x00\x01", func(int) string { return "x" })
}

// slowHeaders says one header each second.
func slowHeaders(ctx context.Context, a *attacker) error {
	return a.hold(ctx, connections(), a.stranger, "GET /version HTTP/1.1\r\nHost: x\r\n", func(i int) string { return fmt.Sprintf("A%d: b\r\n", i) })
}

// endlessHeaders says as much as may be said of headers, each as short as can be,
// and never comes to the end.
func endlessHeaders(ctx context.Context, a *attacker) error {
	var headers strings.Builder
	headers.WriteString("GET /version HTTP/1.1\r\nHost: x\r\n")
	for i := 0; headers.Len() < 1<<20-100; i++ {
		fmt.Fprintf(&headers, "%x:\r\n", i)
	}
	return a.hold(ctx, connections()/10, a.stranger, headers.String(), func(int) string { return "" })
}

// slowBodies begins requests that are allowed, and says their bodies byte by byte.
func slowBodies(ctx context.Context, a *attacker) error {
	begin := "POST " + configMaps + " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 3000000\r\n\r\n" + strings.Repeat(" ", 60_000)
	return a.hold(ctx, connections(), a.admin, begin, func(int) string { return " " })
}

// idleConnections asks once and then nothing more.
func idleConnections(ctx context.Context, a *attacker) error {
	return a.hold(ctx, connections(), a.admin, "GET /version HTTP/1.1\r\nHost: x\r\n\r\n", nil)
}

// manyHandshakes makes connections and drops them.
func manyHandshakes(ctx context.Context, a *attacker) error {
	a.again(ctx, 64, func(ctx context.Context, i int) {
		conn, err := a.dial(ctx, []*tls.Config{a.stranger, a.admin}[i%2], "http/1.1")
		if err != nil {
			if ctx.Err() == nil {
				a.meet("refused")
			}
			return
		}
		_ = conn.Close()
		a.meet("shaken")
	})
	return nil
}
