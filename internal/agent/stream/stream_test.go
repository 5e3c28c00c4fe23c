package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/httpstream"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	utilexec "k8s.io/utils/exec"
)

// echo runs commands that a test knows.
type echo struct{ port int }

func (e echo) Exec(ctx context.Context, c Container, command []string, s Session) (int, error) {
	switch command[0] {
	case "cat":
		_, err := io.Copy(s.Stdout, s.Stdin)
		return 0, err
	case "both":
		fmt.Fprint(s.Stdout, "out "+c.Namespace+"/"+c.Pod+"/"+c.Name)
		fmt.Fprint(s.Stderr, "err")
		return 7, nil
	case "size":
		size := <-s.Resize
		fmt.Fprintf(s.Stdout, "%dx%d tty=%v", size[0], size[1], s.TTY)
		return 0, nil
	case "hang":
		<-ctx.Done()
		return 0, ctx.Err()
	}
	return 0, errors.New("no such command")
}

func (e echo) Attach(_ context.Context, _ Container, s Session) error {
	fmt.Fprint(s.Stdout, "attached")
	return nil
}

func (e echo) Dial(ctx context.Context, _, _ string, port int) (net.Conn, error) {
	if port != 80 {
		return nil, errors.New("connection refused")
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", "127.0.0.1:"+strconv.Itoa(e.port))
}

func serveNode(t *testing.T, b Backend) *url.URL {
	t.Helper()
	c := Container{"ns", "pod", "c"}
	mux := http.NewServeMux()
	mux.HandleFunc("/exec", func(w http.ResponseWriter, r *http.Request) { ServeExec(w, r, b, c) })
	mux.HandleFunc("/attach", func(w http.ResponseWriter, r *http.Request) { ServeAttach(w, r, b, c) })
	mux.HandleFunc("/portForward", func(w http.ResponseWriter, r *http.Request) { ServePortForward(w, r, b, "ns", "pod") })
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// executors are kubectl's ways to run a command: v5 and v4 over WebSocket, SPDY.
func executors(t *testing.T, u *url.URL) map[string]remotecommand.Executor {
	t.Helper()
	config := &rest.Config{Host: u.Host}
	out := map[string]remotecommand.Executor{}
	var err error
	if out["SPDY"], err = remotecommand.NewSPDYExecutor(config, "POST", u); err != nil {
		t.Fatal(err)
	}
	for _, protocol := range []string{"v5.channel.k8s.io", "v4.channel.k8s.io"} {
		if out[protocol], err = remotecommand.NewWebSocketExecutorForProtocols(config, "GET", u.String(), protocol); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func run(t *testing.T, e remotecommand.Executor, o remotecommand.StreamOptions) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	return e.StreamWithContext(ctx, o)
}

func TestExec(t *testing.T) {
	u := serveNode(t, echo{})
	u.Path = "/exec"
	u.RawQuery = "command=both&output=1&error=1"
	for name, e := range executors(t, u) {
		var out, errOut bytes.Buffer
		err := run(t, e, remotecommand.StreamOptions{Stdout: &out, Stderr: &errOut})
		var exit utilexec.ExitError
		if !errors.As(err, &exit) || exit.ExitStatus() != 7 {
			t.Errorf("%s: error is %v", name, err)
		}
		if out.String() != "out ns/pod/c" || errOut.String() != "err" {
			t.Errorf("%s: got %q and %q", name, out.String(), errOut.String())
		}
	}
}

func TestExecStdinEnds(t *testing.T) {
	u := serveNode(t, echo{})
	u.Path = "/exec"
	u.RawQuery = "command=cat&input=1&output=1"
	big := strings.Repeat("0123456789", 100_000)
	for name, e := range executors(t, u) {
		if name == "v4.channel.k8s.io" {
			continue // it cannot tell the end of stdin; that is why there is a v5
		}
		var out bytes.Buffer
		if err := run(t, e, remotecommand.StreamOptions{Stdin: strings.NewReader(big), Stdout: &out}); err != nil || out.String() != big {
			t.Errorf("%s: %d bytes came back, %v", name, out.Len(), err)
		}
	}
}

// oneSize is a terminal's size, told once.
type oneSize struct{ told bool }

func (s *oneSize) Next() *remotecommand.TerminalSize {
	if s.told {
		return nil
	}
	s.told = true
	return &remotecommand.TerminalSize{Width: 80, Height: 25}
}

func TestExecTerminal(t *testing.T) {
	u := serveNode(t, echo{})
	u.Path = "/exec"
	u.RawQuery = "command=size&output=1&tty=1"
	for name, e := range executors(t, u) {
		var out bytes.Buffer
		err := run(t, e, remotecommand.StreamOptions{Stdout: &out, Tty: true, TerminalSizeQueue: &oneSize{}})
		if err != nil || out.String() != "80x25 tty=true" {
			t.Errorf("%s: got %q, %v", name, out.String(), err)
		}
	}
}

func TestExecError(t *testing.T) {
	u := serveNode(t, echo{})
	u.Path = "/exec"
	u.RawQuery = "command=nonsense&output=1"
	for name, e := range executors(t, u) {
		err := run(t, e, remotecommand.StreamOptions{Stdout: io.Discard})
		if err == nil || !strings.Contains(err.Error(), "error executing command in container: no such command") {
			t.Errorf("%s: error is %v", name, err)
		}
	}
}

func TestExecEndsWithItsClient(t *testing.T) {
	u := serveNode(t, echo{})
	u.Path = "/exec"
	u.RawQuery = "command=hang&output=1"
	e := executors(t, u)["v5.channel.k8s.io"]
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := e.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: io.Discard}); err == nil {
		t.Error("a cut connection is a success")
	}
	// The server's Close in the clean-up hangs if the session goes on.
}

func TestAttach(t *testing.T) {
	u := serveNode(t, echo{})
	u.Path = "/attach"
	u.RawQuery = "output=1"
	for name, e := range executors(t, u) {
		var out bytes.Buffer
		if err := run(t, e, remotecommand.StreamOptions{Stdout: &out}); err != nil || out.String() != "attached" {
			t.Errorf("%s: got %q, %v", name, out.String(), err)
		}
	}
}

func TestPortForward(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "hello "+r.URL.Path) }))
	defer web.Close()
	u := serveNode(t, echo{port: web.Listener.Addr().(*net.TCPAddr).Port})
	u.Path = "/portForward"
	config := &rest.Config{Host: u.Host}
	transport, upgrader, err := spdy.RoundTripperFor(config)
	if err != nil {
		t.Fatal(err)
	}
	tunnel, err := portforward.NewSPDYOverWebsocketDialer(u, config)
	if err != nil {
		t.Fatal(err)
	}
	for name, dialer := range map[string]httpstream.Dialer{
		"SPDY":   spdy.NewDialer(upgrader, &http.Client{Transport: transport}, "POST", u),
		"tunnel": tunnel,
	} {
		t.Run(name, func(t *testing.T) {
			stop, ready := make(chan struct{}), make(chan struct{})
			var errOut bytes.Buffer
			f, err := portforward.New(dialer, []string{"0:80"}, stop, ready, io.Discard, &errOut)
			if err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- f.ForwardPorts() }()
			select {
			case <-ready:
			case err := <-ended:
				t.Fatalf("ended: %v %s", err, errOut.String())
			case <-time.After(10 * time.Second):
				t.Fatal("not ready")
			}
			ports, err := f.GetPorts()
			if err != nil {
				t.Fatal(err)
			}
			client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
			for i := range 3 {
				resp, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/%d", ports[0].Local, i))
				if err != nil {
					t.Fatal(err)
				}
				body, _ := io.ReadAll(resp.Body)
				resp.Body.Close()
				if string(body) != fmt.Sprintf("hello /%d", i) {
					t.Errorf("got %q", body)
				}
			}
			close(stop)
			<-ended
		})
	}
}
