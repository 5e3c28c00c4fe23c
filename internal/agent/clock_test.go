package agent

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap/zaptest"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	events "k8s.io/client-go/tools/record"

	"github.com/skiff-sh/skiff/internal/uplink"
)

const day = 24 * time.Hour

// hear has the node hear servers whose clock is ahead of its own.
func hear(t *uplink.Time, ahead time.Duration) {
	now := time.Now()
	t.Hear(now.Add(ahead).Truncate(time.Second), now, now)
}

func TestSkew(t *testing.T) {
	for name, c := range map[string]struct {
		before   skew
		measured time.Duration
		want     skew
	}{
		"agrees":                     {skew{}, 3 * time.Second, skew{known: true}},
		"just so":                    {skew{}, -30 * time.Second, skew{known: true}},
		"is behind":                  {skew{known: true}, -31 * time.Second, skew{known: true, ahead: -31 * time.Second}},
		"is ahead":                   {skew{}, time.Hour, skew{known: true, ahead: time.Hour}},
		"still is, about":            {skew{true, time.Hour}, time.Hour + 9*time.Second, skew{true, time.Hour}},
		"drifts away":                {skew{true, time.Hour}, time.Hour + 11*time.Second, skew{true, time.Hour + 11*time.Second}},
		"is set, but wrongly":        {skew{true, time.Hour}, -time.Hour, skew{true, -time.Hour}},
		"comes near":                 {skew{true, 31 * time.Second}, 22 * time.Second, skew{true, 31 * time.Second}},
		"comes nearer":               {skew{true, 31 * time.Second}, 21*time.Second - 1, skew{true, 21*time.Second - 1}},
		"comes near enough":          {skew{true, 31 * time.Second}, 20 * time.Second, skew{known: true}},
		"was near, and is as before": {skew{known: true}, 29 * time.Second, skew{known: true}},
	} {
		if got := c.before.next(c.measured); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

func TestClockCondition(t *testing.T) {
	for _, c := range []struct {
		ahead time.Duration
		want  string
	}{
		{0, "False ClockAgrees the clock agrees with the server's"},
		{-(730*day + 3*time.Hour + 7*time.Minute), "True ClockBehind the clock is 730 days 3 hours behind the server's: set the one that is wrong"},
		{time.Hour + time.Minute + time.Second, "True ClockAhead the clock is 1 hour 1 minute ahead of the server's: set the one that is wrong"},
		{day + time.Minute, "True ClockAhead the clock is 1 day ahead of the server's: set the one that is wrong"},
		{-2 * time.Minute, "True ClockBehind the clock is 2 minutes behind the server's: set the one that is wrong"},
		{31 * time.Second, "True ClockAhead the clock is 31 seconds ahead of the server's: set the one that is wrong"},
	} {
		got := skew{known: true, ahead: c.ahead}.condition()
		if text := string(got.Status) + " " + got.Reason + " " + got.Message; got.Type != "ClockSkew" || text != c.want {
			t.Errorf("%s: %s", c.ahead, text)
		}
	}
}

func (b *bench) clockCondition() string {
	for _, c := range b.node().Status.Conditions {
		if c.Type == clockSkew {
			return string(c.Status) + " " + c.Message
		}
	}
	return "none"
}

// The Node says that its clock is wrong, and when it no longer is; both with the
// writes that there are anyway.
func TestNodeTellsOfItsClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.time = uplink.NewTime(time.Now)
		hear(b.time, 730*day+3*time.Hour)
		b.start()
		defer func() { b.stop() }()
		want := "the clock is 730 days 3 hours behind the server's: set the one that is wrong"
		if got := b.clockCondition(); got != "True "+want {
			t.Errorf("condition is %s", got)
		}
		pass(time.Second)
		b.wantEvent("ClockSkew " + want)
		patches := func() (n int) {
			for _, a := range b.client.Actions() {
				if a.GetResource().Resource == "nodes" && a.GetVerb() == "patch" {
					n++
				}
			}
			return n
		}
		before := patches()
		for range 24 {
			hear(b.time, 730*day+3*time.Hour)
			pass(10 * time.Second)
		}
		if n := patches() - before; n != 0 {
			t.Errorf("%d writes while nothing changes", n)
		}
		hear(b.time, 0)
		pass(11 * time.Second)
		if got := b.clockCondition(); got != "False the clock agrees with the server's" {
			t.Errorf("condition is %s", got)
		}
		b.wantEvent("ClockAgrees the clock agrees with the server's")
	})
}

// What the control plane compares with its own clock is told by it.
func TestTimesAreTheServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.time = uplink.NewTime(time.Now)
		const ahead = 730 * day
		hear(b.time, ahead)
		b.start()
		defer func() { b.stop() }()
		b.create(webPod())
		pass(time.Second)
		b.runtime.exit(t, "c", 0)
		pass(time.Second)
		server := time.Now().Add(ahead)
		for what, got := range b.times() {
			if off := server.Sub(got); off.Abs() > 5*time.Second {
				t.Errorf("%s is %s off", what, off)
			}
		}
	})
}

// times are all times that the node tells the API.
func (b *bench) times() map[string]time.Time {
	b.Helper()
	pod, node := b.pod(), b.node()
	c := pod.Status.ContainerStatuses[0]
	out := map[string]time.Time{
		"the Pod's start":         pod.Status.StartTime.Time,
		"the container's start":   c.State.Running.StartedAt.Time,
		"the one before it":       c.LastTerminationState.Terminated.StartedAt.Time,
		"the end of that":         c.LastTerminationState.Terminated.FinishedAt.Time,
		"the lease's renewal":     b.lease().Spec.RenewTime.Time,
		"the clock's sending off": node.Status.Conditions[0].LastHeartbeatTime.Time,
	}
	for _, c := range pod.Status.Conditions {
		if c.Type != corev1.PodScheduled { // it was there before
			out["the Pod's "+string(c.Type)] = c.LastTransitionTime.Time
		}
	}
	list, err := b.client.CoreV1().Events("default").List(b.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) == 0 {
		b.Fatalf("%d events, %v", len(list.Items), err)
	}
	for _, e := range list.Items {
		out["the first event "+e.Reason], out["the last event "+e.Reason] = e.FirstTimestamp.Time, e.LastTimestamp.Time
	}
	return out
}

// Two years pass on the servers' clock while a Pod runs that may for a minute.
func TestActiveDeadlineWhenClocksAreSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.time = uplink.NewTime(time.Now)
		hear(b.time, -730*day)
		b.start()
		defer func() { b.stop() }()
		seconds := int64(60)
		b.create(webPod(func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = &seconds }))
		pass(10 * time.Second)
		hear(b.time, 0) // NTP, on the server
		b.agent.SetAddresses(nil)
		pass(45 * time.Second)
		if got := b.pod().Status.Phase; got != corev1.PodRunning {
			t.Fatalf("phase is %s", got)
		}
		pass(10 * time.Second)
		if s := b.pod().Status; s.Phase != corev1.PodFailed || s.Reason != "DeadlineExceeded" {
			t.Errorf("status is %+v", s)
		}
	})
}

// An initial delay is kept whatever is told of the container's start.
func TestInitialDelayWhenClocksDiffer(t *testing.T) {
	for _, ahead := range []time.Duration{-730 * day, 730 * day} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t)
			b.time = uplink.NewTime(time.Now)
			hear(b.time, ahead)
			b.start()
			defer func() { b.stop() }()
			b.create(webPod(func(p *corev1.Pod) {
				probe := probeExec(5, 1)
				probe.InitialDelaySeconds = 30
				p.Spec.Containers[0].ReadinessProbe = probe
			}))
			pass(29 * time.Second)
			if b.pod().Status.ContainerStatuses[0].Ready {
				t.Errorf("servers %s ahead: ready before its probe began", ahead)
			}
			pass(3 * time.Second)
			if !b.pod().Status.ContainerStatuses[0].Ready {
				t.Errorf("servers %s ahead: the probe does not begin", ahead)
			}
		})
	}
}

// sent remembers what was written.
type sent struct {
	events.EventSink
	created *corev1.Event
	patch   string
}

func (s *sent) Create(e *corev1.Event) (*corev1.Event, error) { s.created = e; return e, nil }
func (s *sent) Patch(_ *corev1.Event, patch []byte) (*corev1.Event, error) {
	s.patch = string(patch)
	return nil, nil
}

func TestEventTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock, out := uplink.NewTime(time.Now), &sent{}
		hear(clock, 365*day)
		s := sink{EventSink: out, time: clock}
		now := metav1.Now()
		server := metav1.NewTime(now.Add(365 * day))
		near := func(got metav1.Time, want metav1.Time) bool { return got.Sub(want.Time).Abs() < 2*time.Second }
		fresh := &corev1.Event{FirstTimestamp: now, LastTimestamp: now}
		if _, err := s.Create(fresh); err != nil || !near(out.created.FirstTimestamp, server) || !near(out.created.LastTimestamp, server) {
			t.Errorf("created %v, %v", out.created, err)
		}
		if !fresh.FirstTimestamp.Equal(&now) {
			t.Error("the caller's event was changed")
		}
		if _, err := s.Create(&corev1.Event{FirstTimestamp: server, LastTimestamp: now}); err != nil ||
			!near(out.created.FirstTimestamp, server) || !near(out.created.LastTimestamp, server) {
			t.Errorf("created again %v, %v", out.created, err)
		}
		patch := `{"count":2,"lastTimestamp":"` + now.UTC().Format(time.RFC3339) + `"}`
		if _, err := s.Patch(fresh, []byte(patch)); err != nil || !strings.Contains(out.patch, `"count":2`) || !strings.Contains(out.patch, `"lastTimestamp":"2000-12-31T`) {
			t.Errorf("patched %s, %v", out.patch, err)
		}
	})
}

func TestSinceTimeIsTheServers(t *testing.T) {
	server, ca := nodeAPI(t, func(a *Agent) {
		a.Time = uplink.NewTime(time.Now)
		hear(a.Time, 365*day)
	})
	cert := ca.client(t, pkix.Name{CommonName: apiServerClient})
	// The log says 2026-01-01, which is 2027-01-01 to the servers.
	for since, want := range map[string]string{"2026-12-30T00:00:00Z": "second\n", "2027-01-02T00:00:00Z": ""} {
		if status, body := get(t, server, &cert, "/containerLogs/default/web/c?sinceTime="+since); status != 200 || body != want {
			t.Errorf("since %s: %d %q", since, status, body)
		}
	}
}

// Callers of the node API are judged by what is known of time.
func TestNodeAPIJudgesByTheLatestTime(t *testing.T) {
	ca := newAuthority(t)
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	own := ca.client(t, pkix.Name{CommonName: "n1"})
	caller := ca.client(t, pkix.Name{CommonName: apiServerClient}) // for an hour
	for known, accepted := range map[time.Duration]bool{0: true, 2 * time.Hour: false} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		a := &Agent{Config: Config{
			ServingCert: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &own, nil }, ClientCA: pool,
			Latest: func() time.Time { return time.Now().Add(known) },
		}, log: zaptest.NewLogger(t), listener: listener}
		done := make(chan error, 1)
		go func() { done <- a.serve(t.Context()) }()
		conn, err := tls.Dial("tcp", listener.Addr().String(), &tls.Config{
			InsecureSkipVerify: true, Certificates: []tls.Certificate{caller}, //nolint:gosec // the server is not what is tested
		})
		if err == nil { // the server's verdict comes with its first byte
			_, _ = conn.Write([]byte("GET /healthz HTTP/1.1\r\nHost: n1\r\nConnection: close\r\n\r\n"))
			_, err = conn.Read(make([]byte, 1))
			_ = conn.Close()
		}
		if (err == nil) != accepted {
			t.Errorf("%s later: %v", known, err)
		}
		_ = listener.Close()
		if err := <-done; err == nil {
			t.Error("it goes on without a listener")
		}
	}
}
