package agent

import (
	"context"
	"errors"
	"sort"
	"sync"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"

	"github.com/skiff-sh/skiff/internal/config"
)

// When a machine goes down its node ends the Pods itself, group by group, while the
// machine waits: whoever keeps data has the time to, and others are told why the Pods
// have failed.

// errShutdown is why a node that goes down is not ready.
var errShutdown = errors.New("node is shutting down")

// What is said of Pods of a machine that goes down.
const (
	shutdownReason  = "Terminated"
	shutdownMessage = "Pod was terminated in response to imminent node shutdown."
)

// shutdownGroup is who ends together, and how long the others wait for them.
type shutdownGroup struct {
	config.ShutdownGroup
	Pods []*corev1.Pod
}

// shutdownGroups puts Pods into their groups, which are sorted by priority: into the
// last one that is for no higher priority than theirs, or the first. It is pure.
func shutdownGroups(groups []config.ShutdownGroup, pods []*corev1.Pod) []shutdownGroup {
	out := make([]shutdownGroup, len(groups))
	for i := range groups {
		out[i].ShutdownGroup = groups[i]
	}
	for _, pod := range pods {
		i := sort.Search(len(out), func(i int) bool { return out[i].Priority > priorityOf(pod) })
		i = max(i-1, 0)
		out[i].Pods = append(out[i].Pods, pod)
	}
	return out
}

// shutdownGrace is how many seconds a Pod gets for whose group there is so much time.
func shutdownGrace(pod *corev1.Pod, all time.Duration) int64 {
	seconds := int64(all / time.Second)
	if own := pod.Spec.TerminationGracePeriodSeconds; own != nil {
		seconds = min(seconds, *own)
	}
	return max(seconds, 1)
}

// watchShutdown ends the Pods when the machine goes down, if it is to wait for that.
func (a *Agent) watchShutdown(ctx context.Context) {
	groups := a.Kubelet.Shutdown.Groups()
	if len(groups) == 0 {
		return
	}
	wait := time.Duration(0)
	for _, g := range groups {
		wait += g.Time
	}
	delay := newRetry(time.Second, time.Minute)
	for {
		err := a.Shutdowns(ctx, wait, func(goes bool) { a.powerChanges(ctx, groups, goes) })
		if ctx.Err() != nil {
			return
		}
		a.log.Warn("the machine would not wait for its Pods: it does not say when it goes down; trying again", zap.Error(err))
		if !delay.wait(ctx) {
			return
		}
	}
}

// powerChanges hears that the machine goes down, or after all does not. It returns when
// the machine need not wait any more.
func (a *Agent) powerChanges(ctx context.Context, groups []config.ShutdownGroup, goes bool) {
	what := "event"
	if !goes {
		what = "cancellation"
	}
	a.log.Info("the machine goes down, or does not after all", zap.Bool("goes", goes))
	if ref := a.nodeRef(); ref != nil {
		a.recorder.Eventf(ref, corev1.EventTypeNormal, "NodeShutdown", "Shutdown manager detected shutdown %s", what)
	}
	a.goesDown.Store(goes)
	a.pokeNode()
	if goes {
		a.endAll(ctx, groups)
	}
}

// endAll ends all Pods, one group after the other: the next one begins when all of the
// group are gone, or its time is over.
func (a *Agent) endAll(ctx context.Context, groups []config.ShutdownGroup) {
	var pods []*corev1.Pod
	byUID := map[string]*worker{}
	for _, w := range a.allWorkers() {
		w.mu.Lock()
		if !w.ended && !w.gone && !terminal(w.pod) {
			pods = append(pods, w.pod)
			byUID[w.uid] = w
		}
		w.mu.Unlock()
	}
	for _, g := range shutdownGroups(groups, pods) {
		if len(g.Pods) == 0 {
			continue
		}
		inTime, cancel := context.WithTimeout(ctx, g.Time)
		var all sync.WaitGroup
		for _, pod := range g.Pods {
			w := byUID[string(pod.UID)]
			w.log.Info("pod ended: the machine goes down")
			w.terminate(ending{Reason: shutdownReason, Message: shutdownMessage, Grace: shutdownGrace(pod, g.Time), Disrupted: true})
			all.Go(func() {
				select {
				case <-w.over:
				case <-inTime.Done():
				}
			})
		}
		all.Wait()
		cancel()
	}
}

// refusedAtShutdown is why a node that goes down takes no Pod.
func refusedAtShutdown(goes bool) *refusal {
	if !goes {
		return nil
	}
	return &refusal{Reason: "NodeShutdown", Message: "Pod was rejected as the node is shutting down."}
}
