package probe

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func execProbe() *corev1.Probe {
	return &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"check"}}},
		PeriodSeconds: 10, TimeoutSeconds: 1, SuccessThreshold: 1, FailureThreshold: 3}
}

func answering(code int) Target {
	return Target{Exec: func(context.Context, []string) (string, int, error) { return "said", code, nil }}
}

func spawn(attempt func()) { go attempt() }

// What is stopped while it is under way reports nothing, and nothing comes after it.
func TestStopMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var attempts sync.WaitGroup
		begun := 0
		slow := Target{Exec: func(ctx context.Context, _ []string) (string, int, error) {
			begun++
			<-ctx.Done()
			return "", 0, nil
		}}
		prober := Start(t.Context(), Liveness, execProbe(), slow, time.Now(), attempts.Go, func(r Report) { t.Errorf("report is %+v", r) })
		synctest.Wait()
		prober.Stop()
		prober.Stop()
		attempts.Wait()
		time.Sleep(time.Minute)
		if begun != 1 {
			t.Errorf("%d attempts", begun)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		Start(ended, Liveness, execProbe(), slow, time.Now(), attempts.Go, func(Report) {}).Stop()
	})
}

func TestThresholds(t *testing.T) {
	p := &corev1.Probe{SuccessThreshold: 2, FailureThreshold: 3}
	var c counter
	for i, step := range []struct{ ok, decided bool }{
		{true, false}, {true, true}, {true, true}, {false, false}, {false, false}, {true, false}, {false, false}, {false, false}, {false, true},
	} {
		if got := c.count(step.ok, p); got != step.decided {
			t.Errorf("step %d: decided %v", i, got)
		}
	}
}

func TestInitialDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := execProbe()
		p.InitialDelaySeconds = 5
		started := time.Now()
		var at []time.Duration
		var attempts sync.WaitGroup
		prober := Start(t.Context(), Liveness, p, answering(0), started, attempts.Go, func(r Report) {
			at = append(at, time.Since(started))
			if r.Verdict == nil || !*r.Verdict || r.Kind != Liveness {
				t.Errorf("report is %+v", r)
			}
		})
		time.Sleep(26 * time.Second)
		prober.Stop()
		time.Sleep(time.Minute)
		attempts.Wait()
		if len(at) != 3 || at[0] != 5*time.Second || at[1] != 15*time.Second || at[2] != 25*time.Second {
			t.Errorf("attempts at %v", at)
		}
	})
}

// A clock that was set back makes the start lie in the future.
func TestStartInTheFuture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := execProbe()
		p.InitialDelaySeconds = 5
		began := time.Now()
		first := make(chan time.Duration, 10)
		prober := Start(t.Context(), Liveness, p, answering(0), began.Add(24*time.Hour), spawn, func(Report) { first <- time.Since(began) })
		defer prober.Stop()
		if at := <-first; at != 5*time.Second {
			t.Errorf("first attempt after %v", at)
		}
	})
}

func TestEagerStart(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().String()
	l.Close() // nobody listens yet
	p := &corev1.Probe{PeriodSeconds: 60, TimeoutSeconds: 1}
	p.TCPSocket = &corev1.TCPSocketAction{Port: port(t, at)}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	reports := make(chan Report, 10)
	prober := Start(ctx, Readiness, p, Target{Host: "127.0.0.1"}, time.Now(), spawn, func(r Report) { reports <- r })
	defer prober.Stop()
	for range 3 { // until some attempts have failed
		if conn, err := net.DialTimeout("tcp", at, time.Second); err == nil {
			conn.Close()
		}
	}
	if l, err = net.Listen("tcp", at); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	select {
	case r := <-reports:
		if !r.Result.OK || r.Verdict == nil || !*r.Verdict {
			t.Errorf("report is %+v", r)
		}
	case <-ctx.Done():
		t.Error("the whole period was waited for")
	}
}

func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hangs := Target{Exec: func(ctx context.Context, _ []string) (string, int, error) {
			<-ctx.Done()
			return "", 0, ctx.Err()
		}}
		begun := time.Now()
		r := Attempt(t.Context(), execProbe(), hangs)
		if r.OK || r.Err != nil || time.Since(begun) != time.Second || !strings.Contains(r.Output, "timed out after 1s") {
			t.Errorf("after %v: %+v", time.Since(begun), r)
		}
	})
}

func TestExec(t *testing.T) {
	if r := Attempt(t.Context(), execProbe(), answering(0)); !r.OK {
		t.Errorf("got %+v", r)
	}
	if r := Attempt(t.Context(), execProbe(), answering(2)); r.OK || r.Output != "said" || r.Err != nil {
		t.Errorf("got %+v", r)
	}
}

// port returns where a test server listens.
func port(t *testing.T, address string) intstr.IntOrString {
	t.Helper()
	a, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return intstr.FromInt(a.Port)
}

func TestHTTPGet(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/away":
			http.Redirect(w, r, "http://example.invalid/", http.StatusFound)
		case r.URL.Path != "/ok" || r.URL.RawQuery != "q=1" || r.Header.Get("X") != "y" || r.Host != "me" || r.UserAgent() != "kube-probe/1.36":
			w.WriteHeader(http.StatusTeapot)
		}
	}))
	defer server.Close()
	p := &corev1.Probe{TimeoutSeconds: 5}
	p.HTTPGet = &corev1.HTTPGetAction{Path: "/ok?q=1", Port: port(t, server.Listener.Addr().String()),
		HTTPHeaders: []corev1.HTTPHeader{{Name: "X", Value: "y"}, {Name: "host", Value: "me"}}}
	target := Target{Host: "127.0.0.1"}
	if r := Attempt(t.Context(), p, target); !r.OK {
		t.Errorf("got %+v", r)
	}
	p.HTTPGet.Path = "/wrong"
	if r := Attempt(t.Context(), p, target); r.OK || r.Output != "HTTP probe failed with statuscode: 418" {
		t.Errorf("got %+v", r)
	}
	p.HTTPGet.Path = "/away" // a redirect to elsewhere counts as an answer
	if r := Attempt(t.Context(), p, target); !r.OK {
		t.Errorf("got %+v", r)
	}
	server.Close()
	if r := Attempt(t.Context(), p, target); r.OK || !strings.Contains(r.Output, "connection refused") {
		t.Errorf("got %+v", r)
	}
}

func TestTCPSocket(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &corev1.Probe{TimeoutSeconds: 1}
	p.TCPSocket = &corev1.TCPSocketAction{Port: port(t, l.Addr().String())}
	if r := Attempt(t.Context(), p, Target{Host: "127.0.0.1"}); !r.OK {
		t.Errorf("got %+v", r)
	}
	l.Close()
	if r := Attempt(t.Context(), p, Target{Host: "127.0.0.1"}); r.OK {
		t.Errorf("got %+v", r)
	}
}

func TestPortByName(t *testing.T) {
	ports := []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}
	if n, err := Port(intstr.FromString("http"), ports); n != 8080 || err != nil {
		t.Errorf("got %d, %v", n, err)
	}
	for _, bad := range []intstr.IntOrString{intstr.FromString("none"), intstr.FromInt(0), intstr.FromInt(70000)} {
		if n, err := Port(bad, ports); err == nil {
			t.Errorf("%v gives %d", bad, n)
		}
	}
}

func TestGRPC(t *testing.T) {
	status := uint64(1)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.URL.Path != "/grpc.health.v1.Health/Check" || string(body[5:]) != "\x0a\x03web" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status")
		message := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), status)
		w.Write(frame(message))
		w.Header().Set("Grpc-Status", "0")
	}))
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	defer server.Close()
	name := "web"
	at := port(t, server.Listener.Addr().String())
	p := &corev1.Probe{TimeoutSeconds: 5}
	p.GRPC = &corev1.GRPCAction{Port: int32(at.IntValue()), Service: &name}
	if r := Attempt(t.Context(), p, Target{Host: "127.0.0.1"}); !r.OK {
		t.Errorf("got %+v", r)
	}
	status = 2
	if r := Attempt(t.Context(), p, Target{Host: "127.0.0.1"}); r.OK || r.Output != `service unhealthy (responded with "NOT_SERVING")` {
		t.Errorf("got %+v", r)
	}
}
