package agent

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/agent/stream"
	"github.com/skiff-sh/skiff/internal/kind"
)

const (
	defaultGrace = 30
	// leastGrace is what a process gets between its signal and SIGKILL in any
	// case, whatever hooks and turns have left of the grace period.
	leastGrace = 2 * time.Second
	// killPatience is how long after SIGKILL the end of a container may take.
	killPatience = 30 * time.Second

	maxTerminationMessage = 4096
	maxFallbackBytes      = 2048
	maxFallbackLines      = 80
)

// graceOf is the Pod's grace period in seconds.
func graceOf(pod *corev1.Pod) int64 {
	switch {
	case pod.DeletionGracePeriodSeconds != nil:
		return max(*pod.DeletionGracePeriodSeconds, 1)
	case pod.Spec.TerminationGracePeriodSeconds != nil:
		return max(*pod.Spec.TerminationGracePeriodSeconds, 1)
	}
	return defaultGrace
}

// ownGrace is what a container gets in seconds that is killed for its own sake.
func ownGrace(pod *corev1.Pod) int64 {
	if pod.Spec.TerminationGracePeriodSeconds != nil {
		return *pod.Spec.TerminationGracePeriodSeconds
	}
	return int64(leastGrace / time.Second)
}

// condemn kills a running container for what its record says of it, or since the
// Pod wants another image to run.
func (w *worker) condemn(ctx context.Context, name string) {
	message, grace := "", (*int64)(nil)
	w.change(name, func(r *record) {
		message, grace = r.Condemned, r.Grace
		if grace == nil {
			grace = new(ownGrace(w.pod))
		}
		if message == "" && r.Current.outdated(findContainer(w.pod, name)) {
			replaced := *r.Current
			replaced.Replaced = true
			// What runs next has not crashed yet.
			r.Current, r.Crash = &replaced, crashBackoff{}
			message = fmt.Sprintf("Container %s definition changed, will be restarted", name)
		}
		if message == "" {
			message = w.restartForResize(r, name)
		}
	})
	w.kill(ctx, name, message, grace, nil)
}

// kill ends a container: preStop hook, signal, grace period, SIGKILL. It
// returns when the container has ended. The signal waits for turn, if that is
// not nil; the grace period does not.
func (w *worker) kill(ctx context.Context, name, message string, grace *int64, turn <-chan struct{}) {
	w.mu.Lock()
	r := w.peek(name)
	pod := w.pod
	var exit chan struct{}
	if r.Current != nil {
		exit = w.exits[r.Current.ID]
	}
	w.mu.Unlock()
	if !r.Current.running() || exit == nil {
		return
	}
	c := findContainer(pod, name)
	if message == "" {
		message = "Stopping container " + name
	}
	w.event(c, corev1.EventTypeNormal, "Killing", "%s", message)
	begun := time.Now()
	deadline := func() time.Time { // it may come closer while we wait
		w.mu.Lock()
		defer w.mu.Unlock()
		seconds := graceOf(w.pod)
		if w.pod.DeletionTimestamp == nil && grace != nil {
			seconds = *grace
		}
		if w.ending != nil && w.ending.Grace > 0 {
			seconds = min(seconds, w.ending.Grace)
		}
		return begun.Add(time.Duration(seconds) * time.Second)
	}
	if time.Now().Before(deadline()) {
		w.preStop(ctx, pod, c, r.Current.ID, deadline)
	}
	if turn != nil {
		select {
		case <-turn:
		case <-exit:
			return
		case <-ctx.Done():
			return
		}
	}
	if err := w.Runtime.Kill(ctx, r.Current.ID, w.stopSignal(ctx, c)); err != nil {
		w.log.Debug("signal container", zap.String("container", name), zap.Error(err))
	}
	least := time.Now().Add(leastGrace)
	if w.awaitExit(ctx, exit, func() time.Time {
		if d := deadline(); d.After(least) {
			return d
		}
		return least
	}) {
		return
	}
	w.killNow(ctx, r.Current, exit)
}

// killNow sends SIGKILL. A container whose end nobody tells of is asked for.
func (w *worker) killNow(ctx context.Context, r *run, exit chan struct{}) {
	for ctx.Err() == nil {
		if err := w.Runtime.Kill(ctx, r.ID, int(unix.SIGKILL)); err != nil {
			w.log.Warn("kill container", zap.String("container", r.Name), zap.Error(err))
		}
		until := time.Now().Add(killPatience)
		if w.awaitExit(ctx, exit, func() time.Time { return until }) {
			return
		}
		state, ok, err := w.Runtime.State(ctx, r.ID)
		if err == nil && (!ok || state.Phase == ContainerExited) {
			if !ok {
				state = ContainerState{ID: r.ID, ExitCode: 137, FinishedAt: time.Now()}
			}
			state.Name = r.Name
			state.Phase = ContainerExited
			w.observe(state)
			return
		}
	}
}

// awaitExit waits for a container's end until the deadline, which it asks for
// again when the grace period gets shorter.
func (w *worker) awaitExit(ctx context.Context, exit <-chan struct{}, deadline func() time.Time) bool {
	for {
		w.mu.Lock()
		hurry := w.hurry
		w.mu.Unlock()
		timer := time.NewTimer(time.Until(deadline()))
		select {
		case <-exit:
			timer.Stop()
			return true
		case <-ctx.Done():
			timer.Stop()
			return false
		case <-hurry:
			timer.Stop()
		case <-timer.C:
			return false
		}
	}
}

func (w *worker) preStop(ctx context.Context, pod *corev1.Pod, c *corev1.Container, id string, deadline func() time.Time) {
	if c == nil || c.Lifecycle == nil || c.Lifecycle.PreStop == nil {
		return
	}
	inTime, cancel := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		w.awaitExit(inTime, nil, deadline)
		cancel()
	})
	err := w.hook(inTime, pod, c, id, c.Lifecycle.PreStop)
	cancel()
	watch.Wait()
	if err != nil && ctx.Err() == nil {
		w.event(c, corev1.EventTypeWarning, "FailedPreStopHook", "PreStopHook failed")
		w.log.Debug("preStop hook", zap.String("container", c.Name), zap.Error(err))
	}
}

// stopSignal is the Pod's, the image's, or SIGTERM.
func (w *worker) stopSignal(ctx context.Context, c *corev1.Container) int {
	if c == nil {
		return int(unix.SIGTERM)
	}
	if c.Lifecycle != nil && c.Lifecycle.StopSignal != nil {
		return signalNumber(string(*c.Lifecycle.StopSignal))
	}
	if image, ok, err := w.Images.Get(ctx, c.Image); err == nil && ok {
		return signalNumber(image.StopSignal)
	}
	return int(unix.SIGTERM)
}

// signalNumber reads "SIGINT", "INT", "2" or "SIGRTMIN+3"; what it cannot read
// is SIGTERM.
func signalNumber(s string) int {
	const rtMin = 34
	name := strings.ToUpper(s)
	if n, err := strconv.Atoi(name); err == nil && n > 0 && n <= 64 {
		return n
	}
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if offset, ok := strings.CutPrefix(name, "SIGRTMIN"); ok {
		n, err := strconv.Atoi(strings.TrimPrefix(offset, "+"))
		if offset == "" {
			return rtMin
		}
		if err == nil && n >= 0 && n <= 30 {
			return rtMin + n
		}
	}
	if n := unix.SignalNum(name); n != 0 {
		return int(n)
	}
	return int(unix.SIGTERM)
}

// end stops the whole Pod, reports its final status, takes everything down and
// tells the API that a deleted Pod is gone.
func (w *worker) end(ctx context.Context) {
	w.killAll(ctx)
	if ctx.Err() != nil {
		return
	}
	w.mu.Lock()
	w.stopped = true
	w.mu.Unlock()
	v := w.view(time.Now())
	if !v.Gone {
		// The final status must be with the API before the containers that
		// prove it are gone.
		w.status.want(podStatus(v, w.nodeIPs()))
		w.status.flush(ctx)
	}
	delay := newRetry(time.Second, time.Minute)
	for ctx.Err() == nil {
		err := w.demolish(ctx, v.Pod)
		if err == nil {
			break
		}
		w.log.Warn("take pod down", zap.Error(err))
		w.eventPod(corev1.EventTypeWarning, "FailedKillPod", "error killing pod: %v", err)
		if !delay.wait(ctx) {
			return
		}
	}
	w.mu.Lock()
	if !w.ended {
		close(w.over)
	}
	w.ended = true
	w.mu.Unlock()
	w.deleteObject(ctx)
	w.poke()
}

func (w *worker) demolish(ctx context.Context, pod *corev1.Pod) error {
	w.mu.Lock()
	var ids []string
	for _, r := range w.records {
		for _, one := range []*run{r.Last, r.Current} {
			if one != nil && one.ID != "" {
				ids = append(ids, one.ID)
			}
		}
	}
	ids = append(ids, w.leftovers...)
	final := w.gone || w.pod.DeletionTimestamp != nil
	w.mu.Unlock()
	for _, id := range ids {
		w.Logs.Remove(id)
		if err := w.Runtime.Remove(ctx, id); err != nil {
			return err
		}
	}
	if err := w.tearDown(ctx, w.uid); err != nil {
		return err
	}
	dir := w.logDir(pod.Namespace, pod.Name, w.uid)
	if final {
		return w.removeLogs(w.uid, dir)
	}
	return w.keepLogs(w.uid, dir)
}

// deleteObject completes a graceful deletion.
func (w *worker) deleteObject(ctx context.Context) {
	delay := newRetry(200*time.Millisecond, 10*time.Second)
	for {
		w.mu.Lock()
		pod, gone := w.pod, w.gone
		w.mu.Unlock()
		if gone || pod.DeletionTimestamp == nil {
			return
		}
		now := int64(0)
		err := w.Client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{
			GracePeriodSeconds: &now, Preconditions: &metav1.Preconditions{UID: &pod.UID},
		})
		if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			w.mu.Lock()
			w.deleted = true
			w.mu.Unlock()
			return
		}
		w.log.Debug("delete pod", zap.Error(err))
		if !delay.wait(ctx) {
			return
		}
	}
}

// killAll ends all containers: the main ones together, then sidecars in the
// reverse of the order in which they started. Their preStop hooks run together,
// and one grace period is for all of them.
func (w *worker) killAll(ctx context.Context) {
	w.mu.Lock()
	pod := w.pod
	w.mu.Unlock()
	var mains, all sync.WaitGroup
	for i := range pod.Spec.Containers {
		mains.Go(w.guarded(func() { w.kill(ctx, pod.Spec.Containers[i].Name, "", nil, nil) }))
	}
	for i := range pod.Spec.InitContainers {
		if c := &pod.Spec.InitContainers[i]; !kind.IsSidecar(c) {
			mains.Go(w.guarded(func() { w.kill(ctx, c.Name, "", nil, nil) }))
		}
	}
	for i := range pod.Spec.EphemeralContainers {
		mains.Go(w.guarded(func() { w.kill(ctx, pod.Spec.EphemeralContainers[i].Name, "", nil, nil) }))
	}
	first := make(chan struct{})
	all.Go(func() {
		mains.Wait()
		close(first)
	})
	turn := first
	for i := len(pod.Spec.InitContainers) - 1; i >= 0; i-- {
		if c := &pod.Spec.InitContainers[i]; kind.IsSidecar(c) {
			mine, next := turn, make(chan struct{})
			all.Go(func() {
				w.guarded(func() { w.kill(ctx, c.Name, "", nil, mine) })()
				<-mine // it may have ended by itself
				close(next)
			})
			turn = next
		}
	}
	all.Wait()
}

// terminationMessage is what a container left for its status.
func (w *worker) terminationMessage(r *run) string {
	c := findContainer(w.pod, r.Name)
	if c == nil || c.TerminationMessagePath == "" {
		return ""
	}
	f, err := os.Open(w.terminationFile(w.uid, r.Name, r.Attempt))
	if err == nil {
		defer f.Close()
		data, err := io.ReadAll(io.LimitReader(f, maxTerminationMessage))
		if err == nil && len(data) > 0 {
			return string(bytes.ToValidUTF8(data, []byte("\uFFFD")))
		}
	}
	if c.TerminationMessagePolicy == corev1.TerminationMessageFallbackToLogsOnError && r.ExitCode != 0 {
		var b bytes.Buffer
		if err := stream.Tail(r.LogPath, maxFallbackLines, maxFallbackBytes, &b); err == nil {
			return string(bytes.ToValidUTF8(b.Bytes(), []byte("\uFFFD")))
		}
	}
	return ""
}
