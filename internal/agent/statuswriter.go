package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/kubernetes"

	"github.com/skiff-sh/skiff/internal/agent/static"
)

// statusWriter brings one Pod's status to the API: always the newest, one
// write at a time, and none where nothing changed. It has a goroutine as long as
// there is something to write.
type statusWriter struct {
	client kubernetes.Interface
	log    *zap.Logger
	wake   chan struct{}       // of a write that waits
	took   prometheus.Observer // from a want to its being written
	writer sync.WaitGroup

	mu     sync.Mutex        // guards all below
	spawn  func()            // begins to write; nil before begin
	busy   bool              // it has begun
	base   *corev1.Pod       // the newest the API is known to have
	next   *corev1.PodStatus // nil when there is nothing to write
	since  time.Time         // when there was first something to write that next tells
	start  *metav1.Time      // start time, once it has been wanted
	closed bool              // the API has no such Pod
	// unmirrored says that the API does not show the static Pod yet: its status waits.
	unmirrored bool
	written    chan struct{} // closed when next has become nil; then replaced
}

func newStatusWriter(client kubernetes.Interface, pod *corev1.Pod, log *zap.Logger, took prometheus.Observer) *statusWriter {
	return &statusWriter{
		client: client, log: log, base: pod, start: pod.Status.StartTime,
		wake: make(chan struct{}, 1), written: make(chan struct{}), took: took,
	}
}

// begin lets what was wanted, and will be, be written until the context ends.
func (s *statusWriter) begin(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spawn = func() { s.writer.Go(func() { s.run(ctx) }) }
	s.rouse()
}

// rouse sees to it that what is wanted is being written; s.mu is held.
func (s *statusWriter) rouse() {
	switch {
	case s.busy:
		select {
		case s.wake <- struct{}{}:
		default:
		}
	case s.spawn != nil && s.wanting():
		s.busy = true
		s.spawn()
	}
}

// wanting says whether there is something to write; s.mu is held.
func (s *statusWriter) wanting() bool { return s.next != nil && !s.unmirrored && !s.closed }

// want asks for a status to be written.
func (s *statusWriter) want(status corev1.PodStatus) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.start == nil {
		s.start = status.StartTime
	} else {
		status.StartTime = s.start
	}
	if s.closed || s.next == nil && !s.unmirrored && sameStatus(s.base.Status, status) {
		return
	}
	if s.next == nil || prospect(*s.next) && !prospect(status) {
		s.since = time.Now()
	}
	s.next = &status
	s.rouse()
}

// mirror says which object shows a static Pod's status.
func (s *statusWriter) mirror(pod *corev1.Pod) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unmirrored || pod.UID != s.base.UID || newer(pod.ResourceVersion, s.base.ResourceVersion) {
		s.base, s.unmirrored = pod, false
		s.rouse()
	}
}

func (s *statusWriter) startTime() *metav1.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.start
}

// seen takes what the watch brought, unless an answer to a write was newer.
func (s *statusWriter) seen(pod *corev1.Pod) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if newer(pod.ResourceVersion, s.base.ResourceVersion) {
		s.base = pod
	}
}

// newer compares resource versions, which are numbers that grow.
func newer(a, b string) bool {
	x, err1 := strconv.ParseUint(a, 10, 64)
	y, err2 := strconv.ParseUint(b, 10, 64)
	return err1 != nil || err2 != nil || x >= y
}

// close ends all writing: the Pod is gone.
func (s *statusWriter) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		s.settled()
	}
	s.rouse()
}

// end closes it and waits for the write that is under way.
func (s *statusWriter) end() {
	s.close()
	s.writer.Wait()
}

// settled tells those in flush; s.mu is held.
func (s *statusWriter) settled() {
	s.next = nil
	close(s.written)
	s.written = make(chan struct{})
}

// flush waits until what was wanted is written, the Pod is gone, or the
// context ends.
func (s *statusWriter) flush(ctx context.Context) {
	for {
		s.mu.Lock()
		idle, written := s.next == nil || s.unmirrored, s.written
		s.mu.Unlock()
		if idle {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-written:
		}
	}
}

// run writes until there is nothing more to write or the context ends.
func (s *statusWriter) run(ctx context.Context) {
	delay := newRetry(100*time.Millisecond, 10*time.Second)
	for {
		s.mu.Lock()
		s.busy = s.wanting()
		next, since, base, mirrored, done := s.next, s.since, s.base, static.Is(s.base), !s.busy
		s.mu.Unlock()
		if done {
			return
		}
		if prospect(base.Status) && prospect(*next) {
			since = since.Add(prospectPatience)
		}
		if wait := time.Until(since); wait > 0 {
			if !s.await(ctx, wait) {
				return
			}
			continue
		}
		updated, err := s.patch(ctx, base, *next)
		if apierrors.IsConflict(err) {
			// Either it lost a race, or it is about another Pod of that name.
			updated, err = s.reread(ctx, base)
			if err == nil {
				s.seen(updated)
				if !delay.wait(ctx) {
					return
				}
				continue
			}
		}
		if err != nil && ctx.Err() == nil && !apierrors.IsNotFound(err) && !apierrors.IsInvalid(err) {
			s.log.Debug("write pod status", zap.Error(err))
			if !delay.wait(ctx) {
				return
			}
			continue
		}
		if ctx.Err() != nil {
			return
		}
		delay.reset()
		s.mu.Lock()
		switch {
		case apierrors.IsNotFound(err) && mirrored:
			s.unmirrored = true // another one will show it
		case apierrors.IsNotFound(err):
			// Gone, or another of the same name is there: nothing to say any more.
			if !s.closed {
				s.closed = true
				s.settled()
			}
		case err != nil:
			s.log.Error("pod status was rejected", zap.Error(err))
			s.finish(next)
		default:
			if newer(updated.ResourceVersion, s.base.ResourceVersion) {
				s.base = updated
			}
			observe(s.took, since)
			s.since = time.Now() // what has come meanwhile waits from now on
			s.finish(next)
		}
		s.mu.Unlock()
	}
}

// prospectPatience is how long a status may wait that tells only what is being
// prepared: mostly there is a container to tell of by then, and one write does.
const prospectPatience = 100 * time.Millisecond

// prospect says whether a status tells of nothing that has happened to a container.
func prospect(s corev1.PodStatus) bool {
	if s.Phase != corev1.PodPending && s.Phase != "" || s.Reason != "" {
		return false
	}
	for _, list := range [][]corev1.ContainerStatus{s.InitContainerStatuses, s.ContainerStatuses, s.EphemeralContainerStatuses} {
		for _, c := range list {
			waits := c.State.Waiting
			if waits == nil || c.RestartCount > 0 || waits.Reason != "ContainerCreating" && waits.Reason != "PodInitializing" {
				return false
			}
		}
	}
	return true
}

// await waits for something newer, at most that long. It returns false when the
// context has ended.
func (s *statusWriter) await(ctx context.Context, patience time.Duration) bool {
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-s.wake:
	case <-late.C:
	}
	return true
}

// reread fetches the Pod as it is now; NotFound if another one has its name.
func (s *statusWriter) reread(ctx context.Context, base *corev1.Pod) (*corev1.Pod, error) {
	pod, err := s.client.CoreV1().Pods(base.Namespace).Get(ctx, base.Name, metav1.GetOptions{})
	if err == nil && pod.UID != base.UID {
		return nil, apierrors.NewNotFound(corev1.Resource("pods"), base.Name)
	}
	return pod, err
}

// finish notes that next is written, if nothing newer is wanted; s.mu is held.
func (s *statusWriter) finish(next *corev1.PodStatus) {
	if s.next == next {
		s.settled()
	}
}

func (s *statusWriter) patch(ctx context.Context, base *corev1.Pod, status corev1.PodStatus) (*corev1.Pod, error) {
	if sameStatus(base.Status, status) {
		return base, nil
	}
	old := &corev1.Pod{Status: base.Status}
	updated := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: base.UID}, Status: status}
	updated.Status.Conditions = othersConditions(base.Status.Conditions, status.Conditions)
	oldData, err := json.Marshal(old)
	if err != nil {
		return nil, fmt.Errorf("encode pod status: %w", err)
	}
	newData, err := json.Marshal(updated)
	if err != nil {
		return nil, fmt.Errorf("encode pod status: %w", err)
	}
	// The UID in the patch makes it fail on another Pod of the same name.
	patch, err := strategicpatch.CreateTwoWayMergePatch(oldData, newData, corev1.Pod{})
	if err != nil {
		return nil, fmt.Errorf("compare pod status: %w", err)
	}
	return s.client.CoreV1().Pods(base.Namespace).Patch(ctx, base.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
}

// othersConditions keeps, of conditions that are not the node's, what the API
// has: the view they were copied from may be older.
func othersConditions(known, wanted []corev1.PodCondition) []corev1.PodCondition {
	var out []corev1.PodCondition
	for _, c := range wanted {
		if ownsCondition(c) {
			out = append(out, c)
		}
	}
	for _, c := range known {
		if !ownPodCondition(c.Type) && !slices.ContainsFunc(out, func(o corev1.PodCondition) bool { return o.Type == c.Type }) {
			out = append(out, c)
		}
	}
	return out
}

// ownsCondition says whether a condition is this node's: others say too why a Pod has
// to go.
func ownsCondition(c corev1.PodCondition) bool {
	return ownPodCondition(c.Type) || c.Type == corev1.DisruptionTarget && c.Reason == corev1.PodReasonTerminationByKubelet
}

func ownPodCondition(t corev1.PodConditionType) bool {
	switch t {
	case corev1.PodReadyToStartContainers, corev1.PodInitialized, corev1.ContainersReady, corev1.PodReady, corev1.PodScheduled,
		corev1.AllContainersRestarting, corev1.PodResizePending, corev1.PodResizeInProgress:
		return true
	}
	return false
}

// sameStatus compares what the node reports.
func sameStatus(a, b corev1.PodStatus) bool {
	if !apiequality.Semantic.DeepEqual(ownConditions(a.Conditions), ownConditions(b.Conditions)) {
		return false
	}
	a.Conditions, b.Conditions = nil, nil
	return apiequality.Semantic.DeepEqual(a, b)
}

// ownConditions are the node's conditions in one order, without the times that
// change with nothing else.
func ownConditions(in []corev1.PodCondition) map[corev1.PodConditionType]corev1.PodCondition {
	out := map[corev1.PodConditionType]corev1.PodCondition{}
	for _, c := range in {
		if ownsCondition(c) {
			c.LastProbeTime, c.LastTransitionTime = metav1.Time{}, metav1.Time{}
			out[c.Type] = c
		}
	}
	return out
}
