package hostile

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	restclient "k8s.io/client-go/rest"
)

// watchers is how many watches come and go.
const watchers = 1000

// What 1,000 watches took is given back when they are gone, however they went.
func TestWatchesLeaveNothing(t *testing.T) {
	c := inProcess(t)
	client := kubernetes.NewForConfigOrDie(c)
	maps := client.CoreV1().ConfigMaps("default")
	for i, size := range []int{100, 100 << 10, 100 << 10} { // the first is what changes
		m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("m%d", i)}, Data: map[string]string{"k": strings.Repeat("x", size)}}
		if _, err := maps.Create(t.Context(), m, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	change := func(i int) {
		patch := fmt.Sprintf(`{"metadata":{"annotations":{"i":"%d"}}}`, i)
		if _, err := maps.Patch(t.Context(), "m0", types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
			t.Error(err)
		}
	}
	// What is made once, at the first watches, is not what is looked for.
	comeAndGo(t, c, 100, change)
	goroutines, heap := settle(t, 0, 0)
	comeAndGo(t, c, watchers, change)
	after, used := settle(t, goroutines+20, heap+(4<<20))
	t.Logf("goroutines: %d, then %d; live heap: %d KiB, then %d", goroutines, after, heap>>10, used>>10)
	if after > goroutines+20 {
		t.Errorf("%d goroutines more than before", after-goroutines)
		stacks := make([]byte, 1<<20)
		t.Logf("%s", stacks[:runtime.Stack(stacks, true)])
	}
	if used > heap+(4<<20) {
		t.Errorf("%d KiB more in use than before", (used-heap)>>10)
	}
}

// settle waits until no more goroutines and bytes are in use than wanted, as long as
// there is hope, and returns how many are.
func settle(t *testing.T, goroutines int, heap uint64) (int, uint64) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	if goroutines == 0 {
		deadline = time.After(2 * time.Second)
	}
	var stats runtime.MemStats
	for {
		runtime.GC()
		runtime.GC() // what pools keep goes with the second
		runtime.ReadMemStats(&stats)
		n := runtime.NumGoroutine()
		if n <= goroutines && stats.HeapAlloc <= heap {
			return n, stats.HeapAlloc
		}
		select {
		case <-deadline:
			return n, stats.HeapAlloc
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// comeAndGo opens watches of every sort, lets them see changes, and ends them.
func comeAndGo(t *testing.T, c *restclient.Config, n int, change func(int)) {
	t.Helper()
	w := &visitors{t: t, address: strings.TrimPrefix(c.Host, "https://")}
	var err error
	if w.tls, err = restclient.TLSConfigFor(c); err != nil {
		t.Fatal(err)
	}
	w.tls.ServerName = "127.0.0.1"
	ctx, cancel := context.WithCancel(t.Context())
	w.web = &http.Client{Transport: &http.Transport{TLSClientConfig: w.tls.Clone(), ForceAttemptHTTP2: true}}
	sorts := []func(context.Context) (leave func()){w.reader, w.vanishing, w.deaf, w.second, w.socket}
	leave := make([]func(), n)
	var opening sync.WaitGroup
	places := make(chan struct{}, 32)
	for i := range n {
		places <- struct{}{}
		opening.Go(func() {
			defer func() { <-places }()
			leave[i] = sorts[i%len(sorts)](ctx)
		})
		if i%50 == 0 {
			change(i)
		}
	}
	opening.Wait()
	for i := range 20 {
		change(i)
	}
	for _, f := range leave {
		if f != nil {
			f()
		}
	}
	cancel()
	w.readers.Wait()
	w.web.CloseIdleConnections()
}

// visitors open watches, each in its way.
type visitors struct {
	t       *testing.T
	address string
	tls     *tls.Config
	web     *http.Client
	readers sync.WaitGroup
}

const watchPath = "/api/v1/namespaces/default/configmaps?watch=1"

// open begins a watch by HTTP/1.1 and reads until it has begun.
func (v *visitors) open(ctx context.Context, dialer net.Dialer) (*net.TCPConn, *tls.Conn) {
	raw, err := dialer.DialContext(ctx, "tcp", v.address)
	if err != nil {
		v.t.Error(err)
		return nil, nil
	}
	conn := tls.Client(raw, v.tls)
	if _, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", watchPath); err == nil {
		_, err = bufio.NewReader(io.LimitReader(conn, 100)).ReadString('\n')
	}
	if err != nil {
		v.t.Error(err)
		_ = raw.Close()
		return nil, nil
	}
	return raw.(*net.TCPConn), conn
}

// reader reads all there is and closes in order.
func (v *visitors) reader(ctx context.Context) func() {
	_, conn := v.open(ctx, net.Dialer{})
	if conn == nil {
		return nil
	}
	v.readers.Go(func() { _, _ = io.Copy(io.Discard, conn) })
	return func() { _ = conn.Close() }
}

// vanishing reads, and is suddenly gone.
func (v *visitors) vanishing(ctx context.Context) func() {
	raw, conn := v.open(ctx, net.Dialer{})
	if conn == nil {
		return nil
	}
	v.readers.Go(func() { _, _ = io.Copy(io.Discard, conn) })
	return func() {
		_ = raw.SetLinger(0)
		_ = raw.Close()
	}
}

// deaf does not read at all, and then is gone.
func (v *visitors) deaf(ctx context.Context) func() {
	raw, conn := v.open(ctx, net.Dialer{Control: smallBuffers}) // or the kernel would read
	if conn == nil {
		return nil
	}
	return func() { _ = raw.Close() }
}

// second watches by HTTP/2, on a connection with others.
func (v *visitors) second(ctx context.Context) func() {
	ctx, cancel := context.WithCancel(ctx)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+v.address+watchPath, nil)
	if err != nil {
		v.t.Error(err)
		return cancel
	}
	answer, err := v.web.Do(r)
	if err != nil {
		v.t.Error(err)
		return cancel
	}
	v.readers.Go(func() {
		_, _ = io.Copy(io.Discard, answer.Body)
		_ = answer.Body.Close()
	})
	return cancel
}

// socket watches by WebSocket; half of them say goodbye.
func (v *visitors) socket(ctx context.Context) func() {
	dialer := websocket.Dialer{TLSClientConfig: v.tls}
	conn, answer, err := dialer.DialContext(ctx, "wss://"+v.address+watchPath, nil)
	if err != nil {
		v.t.Error(err)
		return nil
	}
	_ = answer.Body.Close()
	v.readers.Go(func() {
		for {
			if _, _, err := conn.ReadMessage(); err != nil {
				return
			}
		}
	})
	return func() { _ = conn.Close() }
}
