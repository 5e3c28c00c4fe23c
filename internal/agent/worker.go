package agent

import (
	"context"
	"maps"

	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"

	"github.com/skiff-sh/skiff/internal/agent/probe"
	"github.com/skiff-sh/skiff/internal/agent/static"
)

// worker runs one Pod. Its loop looks at the view, decides, reports and carries
// out one step at a time; news (a changed Pod, a container's end, a probe's
// verdict) is stored under mu and wakes it.
type worker struct {
	*Agent
	uid       string
	log       *zap.Logger
	wake      chan struct{}
	status    *statusWriter
	reference corev1.ObjectReference // for events
	static    bool                   // it came from a file, and the API has a mirror of it at most
	// pulls is used by steps alone, of which there is one at a time.
	pulls map[string]pullState
	// leftovers are containers that were made and never started.
	leftovers []string
	// probes is used by the loop alone.
	probes   map[probeKey]*probe.Prober
	probesWG sync.WaitGroup
	last     lastFootprint
	// spec is of the newest Pod, for events, which may be sent with and without mu.
	spec atomic.Pointer[corev1.PodSpec]

	mu      sync.Mutex
	pod     *corev1.Pod
	gone    bool
	stopped bool
	ended   bool
	deleted bool
	ending  *ending
	sizes   sizes // what of its resources the Pod has
	refused string
	box     sandbox
	boxWait time.Duration
	active  time.Time // see activeSince
	news    int       // how often an object that the Pod refers to has changed
	records map[string]*record
	exits   map[string]chan struct{} // by container ID, closed at its end
	hurry   chan struct{}            // closed when the grace period gets shorter
	over    chan struct{}            // closed when everything of the Pod is taken down
}

// newWorker makes the worker of a Pod, with the containers that an earlier run
// of the agent left.
func (a *Agent) newWorker(pod *corev1.Pod, left []ContainerState) *worker {
	w := &worker{
		Agent: a, uid: string(pod.UID), pod: pod,
		log:     a.log.With(zap.String("pod", pod.Namespace+"/"+pod.Name)),
		wake:    make(chan struct{}, 1),
		pulls:   map[string]pullState{},
		probes:  map[probeKey]*probe.Prober{},
		records: map[string]*record{},
		exits:   map[string]chan struct{}{},
		hurry:   make(chan struct{}),
		over:    make(chan struct{}),
	}
	w.reference = corev1.ObjectReference{
		Kind: "Pod", APIVersion: "v1", Namespace: pod.Namespace, Name: pod.Name,
		UID: pod.UID, ResourceVersion: pod.ResourceVersion,
	}
	w.static = static.Is(pod)
	w.status = newStatusWriter(a.Client, pod, w.log, a.durations.status)
	w.status.unmirrored = w.static
	w.recallSizes()
	w.refused = a.unsupported(pod)
	w.spec.Store(&pod.Spec)
	w.adopt(left)
	w.adoptSizes()
	w.refuseEphemeral()
	if terminal(pod) {
		w.ending = &ending{Reason: pod.Status.Reason, Message: pod.Status.Message}
	}
	return w
}

func (w *worker) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// set brings a newer Pod.
func (w *worker) set(pod *corev1.Pod) {
	w.mu.Lock()
	old := w.pod
	pod = w.sizes.take(pod)
	w.pod = pod
	w.spec.Store(&pod.Spec)
	w.refuseEphemeral()
	if graceOf(pod) < graceOf(old) {
		close(w.hurry)
		w.hurry = make(chan struct{})
	}
	w.mu.Unlock()
	w.status.seen(pod)
	if !maps.Equal(old.Labels, pod.Labels) || !maps.Equal(old.Annotations, pod.Annotations) {
		w.volumes.Update(pod)
	}
	w.poke()
}

// vanish says that the API has no such Pod any more.
func (w *worker) vanish() {
	w.mu.Lock()
	w.gone = true
	w.mu.Unlock()
	w.status.close()
	w.poke()
}

// view copies what a decision needs.
func (w *worker) view(now time.Time) view {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ending == nil {
		w.ending = overdue(w.pod, w.activeSince(now), now)
		if w.ending != nil {
			w.eventPod(corev1.EventTypeNormal, w.ending.Reason, "%s", w.ending.Message)
		}
	}
	v := view{
		Pod: w.withStart(), Now: now, Clock: w.Time.Theirs(now), Active: w.activeSince(now), Refused: w.refused, Box: w.standing(), Ending: w.ending,
		Gone: w.gone, Stopped: w.stopped, Ended: w.ended, Deleted: w.deleted, RecursiveReadOnly: w.machine.RecursiveReadOnly,
		Records: make(map[string]record, len(w.records)),
	}
	for name, r := range w.records {
		v.Records[name] = *r
	}
	w.settle(&v)
	return v
}

// withStart is the Pod with the start time that was reported last, which the
// watch may not have brought back yet.
func (w *worker) withStart() *corev1.Pod {
	start := w.status.startTime()
	if start == nil || w.pod.Status.StartTime != nil {
		return w.pod
	}
	pod := *w.pod
	pod.Status.StartTime = start
	return &pod
}

// activeSince is when the Pod's start time was, on this machine's monotonic clock:
// however clocks are set afterwards, the Pod gets the time it may run. It is zero
// as long as the Pod has not started; w.mu is held.
func (w *worker) activeSince(now time.Time) time.Time {
	if start := w.withStart().Status.StartTime; w.active.IsZero() && start != nil {
		w.active = now.Add(-max(w.Time.Theirs(now).Sub(start.Time), 0))
	}
	return w.active
}

// record returns the record of a container, made if need be; w.mu is held.
func (w *worker) record(name string) *record {
	r := w.records[name]
	if r == nil {
		r = &record{Announced: -1}
		w.records[name] = r
	}
	return r
}

// peek returns a copy of a container's record; w.mu is held.
func (w *worker) peek(name string) record {
	if r := w.records[name]; r != nil {
		return *r
	}
	return record{}
}

// change applies fn to a container's record and wakes the loop.
func (w *worker) change(name string, fn func(*record)) {
	defer w.poke()
	w.mu.Lock()
	defer w.mu.Unlock() // after a panic too: others hold all workers' lock while they want this one
	fn(w.record(name))
}

// run is the worker's loop. It returns when the Pod is gone and nothing of it
// is left, or the context ends: then its containers go on.
func (w *worker) run(ctx context.Context) {
	w.status.begin(ctx)
	defer func() {
		w.stopProbes()
		w.status.end()
	}()
	for ctx.Err() == nil {
		if w.loop(ctx) {
			return
		}
		// A panic in one Pod is kept from the others; it is tried again later.
		select {
		case <-ctx.Done():
		case <-time.After(crashDelay):
		}
	}
}

// step is a plan being carried out.
type step struct {
	plan   plan
	cancel context.CancelFunc
	done   chan struct{}
}

// loop returns true at the worker's end, false after a panic.
func (w *worker) loop(ctx context.Context) (over bool) {
	var current *step
	defer func() {
		if current != nil {
			current.cancel()
			<-current.done
		}
		if r := recover(); r != nil {
			w.panicked(r)
			over = false
		}
	}()
	for {
		v := w.view(time.Now())
		p := decide(v)
		if held := v.held(); held.IsZero() {
			w.report(v)
		} else {
			p.wakeBy(held)
		}
		w.syncProbes(ctx, v)
		if v.Ended && v.Gone && current == nil {
			if err := w.removeLogs(w.uid, w.logDir(v.Pod.Namespace, v.Pod.Name, w.uid)); err != nil {
				w.log.Warn("remove logs of a former pod", zap.Error(err))
			}
			return true
		}
		switch {
		case current == nil && !p.idle():
			current = w.begin(ctx, p)
		case current != nil && p.End && !current.plan.End:
			current.cancel()
		}
		if w.pause(ctx, current, p.WakeAt) {
			current = nil
		}
		if ctx.Err() != nil {
			return true
		}
	}
}

// pause waits for news, for the step to end (then it returns true) or for the
// time to decide again.
func (w *worker) pause(ctx context.Context, current *step, wakeAt time.Time) bool {
	var due <-chan time.Time
	if !wakeAt.IsZero() {
		timer := time.NewTimer(time.Until(wakeAt))
		defer timer.Stop()
		due = timer.C
	}
	var done chan struct{}
	if current != nil {
		done = current.done
	}
	select {
	case <-ctx.Done():
	case <-w.wake:
	case <-due:
	case <-done:
		current.cancel()
		return true
	}
	return false
}

// begin carries out a plan beside the loop, so that news is still heard.
func (w *worker) begin(ctx context.Context, p plan) *step {
	ctx, cancel := context.WithCancel(ctx)
	s := &step{plan: p, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		defer func() {
			if r := recover(); r != nil {
				w.panicked(r)
				select {
				case <-ctx.Done():
				case <-time.After(crashDelay):
				}
			}
		}()
		switch {
		case p.End:
			w.end(ctx)
		case p.Reset:
			w.reset(ctx)
		case p.Sandbox:
			w.prepare(ctx)
		case p.Resize:
			w.resize(ctx)
		case p.Kill != "":
			w.condemn(ctx, p.Kill)
		case p.Start != "":
			w.start(ctx, p.Start)
		}
	}()
	return s
}

// guarded keeps a panic of what runs beside a step from the other Pods.
func (w *worker) guarded(fn func()) func() {
	return func() {
		defer func() {
			if r := recover(); r != nil {
				w.panicked(r)
			}
		}()
		fn()
	}
}

func (w *worker) panicked(r any) {
	w.panics.Add(1)
	w.log.Error("pod worker panicked", zap.Any("panic", r), zap.ByteString("stack", debug.Stack()))
}

// report hands the present status to the writer and announces what is new.
func (w *worker) report(v view) {
	if !v.Gone {
		w.status.want(podStatus(v, w.nodeIPs()))
	}
	if v.stopping() {
		return
	}
	for i := range v.Pod.Spec.InitContainers {
		w.announce(v, &v.Pod.Spec.InitContainers[i], true)
	}
	for i := range v.Pod.Spec.Containers {
		w.announce(v, &v.Pod.Spec.Containers[i], false)
	}
}

// announce sends the event of a crash-loop back-off, once for each.
func (w *worker) announce(v view, c *corev1.Container, init bool) {
	r := v.Records[c.Name]
	if _, crashing := crashWait(v, c, init); !crashing || r.Announced == r.Current.Attempt {
		return
	}
	w.event(c, corev1.EventTypeWarning, "BackOff", "Back-off restarting failed container %s in pod %s", c.Name, podName(v.Pod))
	w.mu.Lock()
	w.record(c.Name).Announced = r.Current.Attempt
	w.mu.Unlock()
}

// findContainer returns a container of the Pod, of whatever kind, or nil.
func findContainer(pod *corev1.Pod, name string) *corev1.Container {
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	if e := ephemeral(&pod.Spec, name); e != nil {
		return asContainer(e)
	}
	return nil
}

// livePod is the Pod as the downward API shows it: with the addresses it has.
func (w *worker) livePod() (*corev1.Pod, sandbox) {
	v := w.view(time.Now())
	pod := *v.Pod
	pod.Status = podStatus(v, w.nodeIPs())
	return &pod, v.Box
}
