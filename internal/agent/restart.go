package agent

import (
	"context"
	"slices"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"

	"github.com/skiff-sh/skiff/internal/kind"
)

// reasonRestartAll and its message tell of containers that were ended since a rule of
// another one restarts all of the Pod.
const (
	reasonRestartAll  = "RestartingAllContainers"
	restartAllMessage = "The container is removed because RestartAllContainers in place"
)

// startsAgain says whether a container whose latest run has ended gets another.
func startsAgain(pod *corev1.Pod, c *corev1.Container, init bool, r *run) bool {
	return r.Replaced || r.Reason == reasonRestartAll || shouldRestart(pod, c, init, r.ExitCode)
}

// shouldRestart says whether a container that ended starts again by rule or policy.
func shouldRestart(pod *corev1.Pod, c *corev1.Container, init bool, exitCode int) bool {
	if init && exitCode == 0 && !kind.IsSidecar(c) {
		return false // it has done its work
	}
	if restartRule(c, exitCode) != "" {
		return true
	}
	policy := pod.Spec.RestartPolicy
	if c.RestartPolicy != nil {
		policy = corev1.RestartPolicy(*c.RestartPolicy)
	}
	switch policy {
	case corev1.RestartPolicyNever:
		return false
	case corev1.RestartPolicyOnFailure:
		return exitCode != 0
	}
	return true
}

// restartRule is the action of the first of the container's rules that such an end
// matches, "" if none does.
func restartRule(c *corev1.Container, exitCode int) corev1.ContainerRestartRuleAction {
	for _, rule := range c.RestartPolicyRules {
		if rule.ExitCodes == nil {
			continue
		}
		listed := slices.Contains(rule.ExitCodes.Values, int32(exitCode))
		switch rule.ExitCodes.Operator {
		case corev1.ContainerRestartRuleOnExitCodesOpIn:
			if listed {
				return rule.Action
			}
		case corev1.ContainerRestartRuleOnExitCodesOpNotIn:
			if !listed {
				return rule.Action
			}
		}
	}
	return ""
}

// restartsAll says whether a container has ended so that all of the Pod must restart.
func (v view) restartsAll() bool {
	ended := func(c corev1.Container) bool {
		r := v.Records[c.Name].Current
		return r.exited() && restartRule(&c, r.ExitCode) == corev1.ContainerRestartRuleActionRestartAllContainers
	}
	return slices.ContainsFunc(v.Pod.Spec.InitContainers, ended) || slices.ContainsFunc(v.Pod.Spec.Containers, ended)
}

// restartingCondition is the condition about that; ok is false for a Pod without such
// rules.
func restartingCondition(v view, phase corev1.PodPhase) (c corev1.PodCondition, ok bool) {
	c = corev1.PodCondition{Type: corev1.AllContainersRestarting, Status: corev1.ConditionFalse}
	switch {
	case phase == corev1.PodSucceeded:
		c.Reason = "PodCompleted"
	case phase == corev1.PodFailed:
		c.Reason = "PodFailed"
	case v.restartsAll():
		c.Status, c.Reason, c.Message = corev1.ConditionTrue, "RestartAllContainersStarted", "container exited with restart policy rule"
	}
	return c, kind.MayRestartAll(&v.Pod.Spec)
}

// reset ends all containers but the ephemeral ones, at once, and makes the Pod begin
// anew in its sandbox.
func (w *worker) reset(ctx context.Context) {
	w.mu.Lock()
	spec := w.pod.Spec
	w.mu.Unlock()
	now := int64(0)
	// Those that others wait for end last.
	for _, c := range slices.Concat(spec.Containers, spec.InitContainers) {
		w.kill(ctx, c.Name, "killing", &now, nil)
	}
	if ctx.Err() != nil {
		return
	}
	w.log.Debug("all containers of the pod restart", zap.Int("containers", len(spec.Containers)+len(spec.InitContainers)))
	defer w.poke()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range slices.Concat(spec.Containers, spec.InitContainers) {
		r := w.records[c.Name]
		if r == nil || r.Current == nil {
			continue
		}
		w.Logs.Remove(r.Current.ID)
		for _, old := range []*run{r.Last, r.Current} {
			if old != nil && old.ID != "" {
				w.leftovers = append(w.leftovers, old.ID)
			}
		}
		*r = record{
			NextAttempt: r.Current.Attempt + 1, Announced: -1,
			Last: &run{Reason: reasonRestartAll, Message: restartAllMessage, ContainerState: ContainerState{
				Name: c.Name, Attempt: r.Current.Attempt, Phase: ContainerExited, ExitCode: 137,
			}},
		}
	}
}
