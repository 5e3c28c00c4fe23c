package agent

import (
	"context"
	"fmt"
	"io"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/skiff-sh/skiff/internal/agent/probe"
	"github.com/skiff-sh/skiff/internal/kind"
)

// probeKey is one probe of one attempt of a container.
type probeKey struct {
	id   string
	kind probe.Kind
}

// syncProbes starts the probes that the view calls for and stops the others:
// a startup probe until it has succeeded, then liveness and readiness.
func (w *worker) syncProbes(ctx context.Context, v view) {
	wanted := map[probeKey]bool{}
	for _, list := range [][]corev1.Container{v.Pod.Spec.InitContainers, v.Pod.Spec.Containers} {
		for i := range list {
			c := &list[i]
			r := v.Records[c.Name]
			if !r.Current.running() || r.Condemned != "" || v.Stopped {
				continue
			}
			for kind, p := range probesOf(c, r.Started, v.stopping()) {
				key := probeKey{r.Current.ID, kind}
				wanted[key] = true
				if _, on := w.probes[key]; !on {
					w.startProbe(ctx, v.Pod, c, r.Current, key, p)
				}
			}
		}
	}
	for key, prober := range w.probes {
		if !wanted[key] {
			prober.Stop()
			delete(w.probes, key)
		}
	}
}

// probesOf are the probes to run now. A Pod that is ending keeps only its
// readiness.
func probesOf(c *corev1.Container, started, stopping bool) map[probe.Kind]*corev1.Probe {
	out := map[probe.Kind]*corev1.Probe{}
	if !started {
		if c.StartupProbe != nil && !stopping {
			out[probe.Startup] = c.StartupProbe
		}
		return out
	}
	if c.ReadinessProbe != nil {
		out[probe.Readiness] = c.ReadinessProbe
	}
	if c.LivenessProbe != nil && !stopping {
		out[probe.Liveness] = c.LivenessProbe
	}
	return out
}

func (w *worker) startProbe(ctx context.Context, pod *corev1.Pod, c *corev1.Container, r *run, key probeKey, p *corev1.Probe) {
	spawn := func(attempt func()) { w.probesWG.Go(w.guarded(attempt)) }
	w.probes[key] = probe.Start(ctx, key.kind, p, w.target(pod, c, key.id), r.Began, spawn, func(report probe.Report) {
		w.probed(c, p, key, report)
	})
}

func (w *worker) stopProbes() {
	for _, prober := range w.probes {
		prober.Stop()
	}
	w.probesWG.Wait()
}

// probed draws the consequences of one attempt.
func (w *worker) probed(c *corev1.Container, p *corev1.Probe, key probeKey, report probe.Report) {
	switch {
	case report.Result.Err != nil:
		w.event(c, corev1.EventTypeWarning, "Unhealthy", "%s probe errored and resulted in unknown state: %v", key.kind, report.Result.Err)
	case !report.Result.OK:
		w.event(c, corev1.EventTypeWarning, "Unhealthy", "%s probe failed: %s", key.kind, report.Result.Output)
	}
	if report.Verdict == nil {
		return
	}
	ok := *report.Verdict
	w.setRun(c.Name, key.id, func(r *record) {
		switch {
		case !r.Current.running():
		case key.kind == probe.Readiness:
			r.Ready = ok
		case key.kind == probe.Startup && ok:
			r.Started = true
		case !ok:
			r.Condemned = condemnation(w.pod, c, key.kind)
			r.Grace = p.TerminationGracePeriodSeconds
		}
	})
}

// condemnation says why a container is killed, and whether it will run again.
func condemnation(pod *corev1.Pod, c *corev1.Container, k probe.Kind) string {
	if kind.IsSidecar(c) {
		return fmt.Sprintf("Init container %s failed %s probe", c.Name, lowerKind(k))
	}
	text := fmt.Sprintf("Container %s failed %s probe", c.Name, lowerKind(k))
	policy := pod.Spec.RestartPolicy
	if c.RestartPolicy != nil {
		policy = corev1.RestartPolicy(*c.RestartPolicy)
	}
	if policy != corev1.RestartPolicyNever {
		text += ", will be restarted"
	}
	return text
}

func lowerKind(k probe.Kind) string {
	if k == probe.Startup {
		return "startup"
	}
	return "liveness"
}

// lockedWriter lets two streams of a command share one writer.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}
