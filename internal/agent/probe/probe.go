// Package probe asks containers how they are. A Prober drives one probe of one
// container by timers: an initial delay, then one attempt per period, counted
// against the thresholds. Attempt makes a single one: a command in the
// container, an HTTP or TCP connection from the node to the Pod's address, or a
// gRPC health check. A container without probes costs nothing.
package probe

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Kind is what a probe is for.
type Kind string

// The kinds; they begin upstream's event messages.
const (
	Liveness  Kind = "Liveness"
	Readiness Kind = "Readiness"
	Startup   Kind = "Startup"
)

// Target is the container that is asked.
type Target struct {
	Host  string // the Pod's address
	Ports []corev1.ContainerPort
	// Exec runs a command in the container and returns its output.
	Exec func(ctx context.Context, command []string) (output string, exitCode int, err error)
	// Reach is optional: it answers in the Pod's place what is asked over the
	// network; an error is a failure.
	Reach func(ctx context.Context, h corev1.ProbeHandler) error
}

// Result is what one attempt says. Err is set where the attempt itself could
// not be made; then it counts as neither success nor failure for HTTP and TCP,
// and as a failure for commands, as upstream has it.
type Result struct {
	OK     bool
	Output string
	Err    error
}

// Report tells of one attempt, and where the probe stands after it.
type Report struct {
	Kind   Kind
	Result Result
	// Verdict is what the thresholds make of it; nil as long as neither is
	// reached.
	Verdict *bool
}

// counter applies the thresholds. The zero value has seen nothing.
type counter struct {
	last bool
	run  int32
}

// count takes one more result; decided says whether its threshold is reached.
func (c *counter) count(ok bool, p *corev1.Probe) (decided bool) {
	if c.run == 0 || c.last != ok {
		c.last, c.run = ok, 0
	}
	c.run++
	threshold := p.FailureThreshold
	if ok {
		threshold = p.SuccessThreshold
	}
	return c.run >= max(threshold, 1)
}

// eagerFirst is the pause after an eager attempt; it doubles.
const eagerFirst = 20 * time.Millisecond

// eager says whether the first period is used to find out early that a
// container is up. Most are within milliseconds of their start, and a whole
// period would be lost by asking just before. Commands cost too much for that.
func eager(kind Kind, p *corev1.Probe) bool {
	return kind != Liveness && p.Exec == nil && p.InitialDelaySeconds == 0
}

// Prober drives one probe of one container. Between its attempts there is a timer and
// nothing else.
type Prober struct {
	kind       Kind
	probe      *corev1.Probe
	target     Target
	report     func(Report)
	spawn      func(func())
	cancel     context.CancelFunc
	eagerUntil time.Time     // the zero time: not any more
	pause      time.Duration // after the next eager attempt
	counter    counter

	mu    sync.Mutex // guards timer, and that nothing is spawned after Stop
	timer *time.Timer
}

// Start probes until the context ends or Stop is called. StartedAt is when the
// container started: the initial delay counts from then, or from now if the clock was
// set back since. In the first period after it, readiness and startup probes over the
// network ask more often; what fails there is neither counted nor reported. Each
// attempt, with the report of it, is made in a goroutine that spawn begins: one at a
// time.
func Start(ctx context.Context, kind Kind, p *corev1.Probe, t Target, startedAt time.Time, spawn func(func()), report func(Report)) *Prober {
	ctx, cancel := context.WithCancel(ctx)
	if now := time.Now(); startedAt.After(now) {
		startedAt = now
	}
	first := startedAt.Add(seconds(p.InitialDelaySeconds, 0))
	pr := &Prober{kind: kind, probe: p, target: t, report: report, spawn: spawn, cancel: cancel, pause: eagerFirst}
	if eager(kind, p) {
		pr.eagerUntil = first.Add(seconds(p.PeriodSeconds, 10))
	}
	pr.after(ctx, time.Until(first))
	return pr
}

// Stop ends the probing: nothing is spawned any more, and nothing reported of what is
// under way.
func (pr *Prober) Stop() {
	pr.cancel()
	pr.mu.Lock()
	defer pr.mu.Unlock()
	if pr.timer != nil { // else the context had ended before
		pr.timer.Stop()
	}
}

// after has the next attempt made in a while.
func (pr *Prober) after(ctx context.Context, wait time.Duration) {
	pr.mu.Lock()
	defer pr.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	pr.timer = time.AfterFunc(max(wait, 0), func() {
		pr.mu.Lock()
		defer pr.mu.Unlock()
		if ctx.Err() == nil {
			pr.spawn(func() { pr.attempt(ctx) })
		}
	})
}

func (pr *Prober) attempt(ctx context.Context) {
	begun := time.Now()
	result := Attempt(ctx, pr.probe, pr.target)
	if ctx.Err() != nil {
		return // an attempt cut short says nothing
	}
	if !result.OK && begun.Before(pr.eagerUntil) {
		pause := min(pr.pause, time.Until(pr.eagerUntil))
		pr.pause *= 2
		pr.after(ctx, pause)
		return
	}
	pr.eagerUntil = time.Time{}
	r := Report{Kind: pr.kind, Result: result}
	if result.Err == nil && pr.counter.count(result.OK, pr.probe) {
		r.Verdict = &result.OK
	}
	pr.report(r)
	pr.after(ctx, time.Until(begun.Add(seconds(pr.probe.PeriodSeconds, 10))))
}

func seconds(n, fallback int32) time.Duration {
	if n == 0 {
		n = fallback
	}
	return time.Duration(n) * time.Second
}

// Attempt makes one attempt, within the probe's timeout.
func Attempt(ctx context.Context, p *corev1.Probe, t Target) Result {
	timeout := seconds(p.TimeoutSeconds, 1)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	switch {
	case p.Exec != nil:
		return execute(ctx, p.Exec.Command, t, timeout)
	case t.Reach != nil:
		if err := t.Reach(ctx, p.ProbeHandler); err != nil {
			return Result{Output: err.Error()}
		}
		return Result{OK: true}
	case p.HTTPGet != nil:
		return httpGet(ctx, p.HTTPGet, t)
	case p.TCPSocket != nil:
		return tcpSocket(ctx, p.TCPSocket, t)
	case p.GRPC != nil:
		return grpcCheck(ctx, p.GRPC, t, timeout)
	}
	return Result{OK: true}
}
