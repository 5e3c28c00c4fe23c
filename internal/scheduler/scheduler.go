// Package scheduler gives Pods their nodes.
//
// A Cluster is what decisions are made from; Plan, pure, filters and scores its
// nodes for one Pod; the queue holds the Pods that wait and knows what would help
// them; Scheduler, in this file alone, follows the state and writes what was
// decided. The invariant: a Pod that fits nowhere is tried again when, and only
// when, something changed that may help it. The package never evicts: there is
// no preemption yet, and the words that upstream has for it always tell that no
// victims were found.
package scheduler

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/skiff-sh/skiff/internal/api"
	"github.com/skiff-sh/skiff/internal/auth"
	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
)

const name = "default-scheduler"

// user is whom the scheduler acts as.
var user = auth.User{Name: "system:kube-scheduler", Groups: []string{auth.GroupAuthenticated}}

// mostWrites bounds the bindings that are written at the same time; the store
// joins their commits.
const mostWrites = 64

// Config is what a Scheduler works with.
type Config struct {
	State  *state.State
	API    *api.API
	Log    *zap.Logger
	Panics *atomic.Int64 // counts recovered panics; optional
}

// Scheduler gives Pods their nodes. One goroutine owns everything in it.
type Scheduler struct {
	Config
	events  *api.Recorder
	cluster *Cluster
	queue   *queue
	written chan outcome
	writes  int // under way
}

// outcome is how the writing of a decision ended.
type outcome struct {
	waiting *waiting
	pod     *corev1.Pod
	bound   bool // the decision was a node
	err     error
}

// New returns a scheduler; Run runs it.
func New(c Config) *Scheduler {
	return &Scheduler{Config: c, events: c.API.NewRecorder(name, user), written: make(chan outcome, mostWrites)}
}

// Run schedules until the context ends, which is no error.
func (s *Scheduler) Run(ctx context.Context) error {
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error {
		for {
			err := s.follow(groupCtx, group)
			if !errors.Is(err, state.ErrExpired) {
				return err
			}
			s.Log.Info("scheduler fell behind and starts over")
		}
	})
	if err := group.Wait(); ctx.Err() == nil {
		return fmt.Errorf("scheduler: %w", err)
	}
	return nil
}

// follow takes in what there is and then every event, and decides in between.
func (s *Scheduler) follow(ctx context.Context, group *errgroup.Group) error {
	s.cluster, s.queue = NewCluster(), newQueue()
	nodes, nodeWatch := s.State.ListWatch(kind.Node, state.Interest{})
	defer nodeWatch.Stop()
	pods, podWatch := s.State.ListWatch(kind.Pod, state.Interest{})
	defer podWatch.Stop()
	nodes.Ascend(state.Interest{}, "", func(obj kind.Object) bool {
		s.nodeEvent(state.Event{Type: state.Added, Object: obj})
		return true
	})
	pods.Ascend(state.Interest{}, "", func(obj kind.Object) bool {
		s.podEvent(state.Event{Type: state.Added, Object: obj})
		return true
	})
	for {
		if err := errors.Join(drain(nodeWatch, s.nodeEvent), drain(podWatch, s.podEvent)); err != nil {
			return err
		}
		wait, more := s.decide(ctx, group)
		if more {
			continue // look at what happened before the next one
		}
		if err := s.rest(ctx, nodeWatch, podWatch, wait); err != nil {
			return err
		}
	}
}

// rest waits until something happened.
func (s *Scheduler) rest(ctx context.Context, nodes, pods *state.Watch, wait time.Duration) error {
	var deadline <-chan time.Time
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		deadline = timer.C
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-nodes.Ready():
	case <-pods.Ready():
	case <-deadline:
	case o := <-s.written:
		s.finish(o)
	}
	return nil
}

func drain(w *state.Watch, note func(state.Event)) error {
	for {
		e, ok, err := w.Poll()
		if err != nil || !ok {
			return err
		}
		note(e)
	}
}

func (s *Scheduler) nodeEvent(e state.Event) {
	node := e.Object.(*corev1.Node)
	if e.Type == state.Deleted {
		s.cluster.RemoveNode(node.Name)
		s.queue.happened(nodeLeft, func(w *waiting) bool { return true })
		return
	}
	s.cluster.SetNode(node)
	if c := nodeChange(e); c != 0 {
		s.happened(c, s.cluster.byName[node.Name])
	}
}

// happened tries those Pods again that a change on one node may help: they fit
// there by all that the node alone decides, or others have a say.
func (s *Scheduler) happened(c change, n *nodeInfo) {
	s.queue.happened(c, func(w *waiting) bool { return w.others || n.node != nil && s.cluster.mayFit(w.info, n) })
}

// arrived tries those Pods again that want to be near a Pod, or count it.
func (s *Scheduler) arrived(pod *corev1.Pod) {
	s.queue.happened(podArrived, func(w *waiting) bool {
		return slices.ContainsFunc(w.info.near, func(t term) bool { return t.matches(pod, s.namespaceLabels) }) ||
			slices.ContainsFunc(w.info.spread, func(t spread) bool { return t.counts(w.info.pod, pod) })
	})
}

func nodeChange(e state.Event) change {
	if e.Old == nil {
		return nodeChanged | nodeGrew
	}
	old, node := e.Old.(*corev1.Node), e.Object.(*corev1.Node)
	var c change
	if old.Spec.Unschedulable != node.Spec.Unschedulable || !maps.Equal(old.Labels, node.Labels) ||
		!equality.Semantic.DeepEqual(old.Spec.Taints, node.Spec.Taints) || !slices.Equal(old.Status.DeclaredFeatures, node.Status.DeclaredFeatures) {
		c |= nodeChanged
	}
	if !equality.Semantic.DeepEqual(old.Status.Allocatable, node.Status.Allocatable) {
		c |= nodeGrew
	}
	return c
}

func (s *Scheduler) podEvent(e state.Event) {
	pod := e.Object.(*corev1.Pod)
	old, _ := e.Old.(*corev1.Pod)
	relabelled := old != nil && !maps.Equal(old.Labels, pod.Labels)
	switch {
	case e.Type == state.Deleted || kind.PodFinished(pod):
		s.queue.remove(pod.UID)
		if n := s.cluster.Remove(pod.UID); n != nil {
			s.happened(podLeft, n)
		}
	case pod.Spec.NodeName != "":
		s.queue.remove(pod.UID)
		s.cluster.Place(pod, pod.Spec.NodeName)
		switch {
		case relabelled: // some may be repelled no more
			s.queue.happened(podLeft|podArrived, func(w *waiting) bool { return w.others })
		case old == nil || old.Spec.NodeName == "":
			s.arrived(pod)
		case old.Generation != pod.Generation, !newResources(effective(old)).equal(newResources(effective(pod))): // it may have less
			s.happened(podLeft, s.cluster.byName[pod.Spec.NodeName])
		}
	case !mine(pod):
		s.queue.remove(pod.UID)
	default:
		s.queue.set(pod, relabelled || old == nil || old.Generation != pod.Generation)
	}
}

// mine says whether the Pod waits for this scheduler.
func mine(pod *corev1.Pod) bool {
	return pod.Spec.SchedulerName == name && pod.DeletionTimestamp == nil && len(pod.Spec.SchedulingGates) == 0
}

// decide decides for one Pod and starts to write the decision. more is false
// when there is nothing to decide now.
func (s *Scheduler) decide(ctx context.Context, group *errgroup.Group) (wait time.Duration, more bool) {
	for {
		select {
		case o := <-s.written:
			s.finish(o)
			continue
		default:
		}
		break
	}
	if s.writes >= mostWrites {
		return 0, false // the end of one wakes us
	}
	w, wait := s.queue.next(time.Now())
	if w == nil {
		return wait, false
	}
	plan, err := s.plan(w.info)
	if err != nil {
		s.queue.later(w, time.Now())
		return 0, true
	}
	if plan.Node != "" {
		s.cluster.place(w.info, plan.Node)
	} else {
		s.queue.failed(w, plan, time.Now())
	}
	s.queue.writing[w] = struct{}{}
	s.writes++
	pod := w.info.pod
	group.Go(func() error {
		s.written <- outcome{waiting: w, pod: pod, bound: plan.Node != "", err: s.write(ctx, pod, plan)}
		return nil
	})
	return 0, true
}

// plan calls Plan and turns a panic into an error: one poisoned Pod must not
// stop the others.
func (s *Scheduler) plan(pod *podInfo) (p Plan, err error) {
	defer func() {
		if r := recover(); r != nil {
			if s.Panics != nil {
				s.Panics.Add(1)
			}
			s.Log.Error("scheduling panicked", zap.String("pod", pod.pod.Namespace+"/"+pod.pod.Name),
				zap.Any("panic", r), zap.ByteString("stack", debug.Stack()))
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	return s.cluster.plan(pod, s.namespaceLabels), nil
}

func (s *Scheduler) namespaceLabels(namespace string) labels.Set {
	obj, ok := s.State.Get(kind.Namespace, "", namespace)
	if !ok {
		return nil
	}
	return obj.GetLabels()
}

// finish takes in how a write ended. A Pod that was bound is left alone until
// its event takes it out of the queue.
func (s *Scheduler) finish(o outcome) {
	s.writes--
	w := o.waiting
	if s.queue.all[o.pod.UID] != w {
		return // it has gone, or is bound
	}
	if o.err == nil {
		if !o.bound {
			s.queue.wrote(w, time.Now())
		}
		return
	}
	if n := s.cluster.Remove(o.pod.UID); n != nil {
		s.happened(podLeft, n)
	}
	s.queue.later(w, time.Now())
	s.Log.Warn("scheduling decision not written", zap.String("pod", o.pod.Namespace+"/"+o.pod.Name), zap.Error(o.err))
}

func (s *Scheduler) write(ctx context.Context, pod *corev1.Pod, p Plan) error {
	if p.Node == "" {
		return s.tellUnschedulable(ctx, pod, p)
	}
	err := s.API.Bind(ctx, s.request(pod, "binding"), &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
		Target:     corev1.ObjectReference{Kind: "Node", Name: p.Node},
	})
	switch {
	case apierrors.IsNotFound(err), ctx.Err() != nil:
		return nil
	case err != nil:
		s.events.Event(ctx, kind.Pod, pod, corev1.EventTypeWarning, "FailedScheduling", "running Bind plugin %q: %v", "DefaultBinder", err)
		return fmt.Errorf("bind: %w", err)
	}
	s.events.Event(ctx, kind.Pod, pod, corev1.EventTypeNormal, "Scheduled",
		"Successfully assigned %s/%s to %s", pod.Namespace, pod.Name, p.Node)
	return nil
}

func (s *Scheduler) request(pod *corev1.Pod, subresource string) api.Request {
	return api.Request{
		User: user, FieldManager: "kube-scheduler",
		Kind: kind.Pod, Namespace: pod.Namespace, Name: pod.Name, Subresource: subresource,
	}
}

// tellUnschedulable writes the event and the condition of a Pod that fits
// nowhere.
func (s *Scheduler) tellUnschedulable(ctx context.Context, pod *corev1.Pod, p Plan) error {
	s.events.Event(ctx, kind.Pod, pod, corev1.EventTypeWarning, "FailedScheduling", "%s", p.Message)
	_, err := s.API.Modify(ctx, s.request(pod, "status"), func(obj kind.Object) error {
		live := obj.(*corev1.Pod)
		if live.UID == pod.UID && live.Spec.NodeName == "" {
			kind.SetPodCondition(live, corev1.PodCondition{
				Type: corev1.PodScheduled, Status: corev1.ConditionFalse,
				Reason: corev1.PodReasonUnschedulable, Message: p.Message,
			}, kind.Now())
		}
		return nil
	})
	if apierrors.IsNotFound(err) || ctx.Err() != nil {
		return nil
	}
	return err
}
