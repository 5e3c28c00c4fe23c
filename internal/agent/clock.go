package agent

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skiff-sh/skiff/internal/uplink"
)

// What compares times: the machine's clock may be years off, and be set at any
// time. Deadlines and waits count on the monotonic clock. What the API is told
// (a Pod's start, a condition's change) is told by the servers' clock, with which
// the control plane compares it.

// clockSkew is the type of the Node's condition that says whether its clock
// differs from the servers'; no other program reports one of this kind, and what
// node-problem-detector calls NTPProblem is that a daemon does not run. It is True
// when they are more than uplink.Apart from each other.
const clockSkew corev1.NodeConditionType = "ClockSkew"

// Reasons of that condition, and of the Warning when it becomes True.
const (
	reasonClockBehind = "ClockBehind"
	reasonClockAhead  = "ClockAhead"
	reasonClockAgrees = "ClockAgrees"
	reasonClockSkew   = "ClockSkew"
)

// A difference that is reported is so until it is smaller than agreesAgain, and
// is told anew when it has changed by more than skewStep: it is measured to about
// a second, and not every second is worth a write.
const (
	agreesAgain = 20 * time.Second
	skewStep    = 10 * time.Second
)

// skew is what is reported of the difference between the clocks.
type skew struct {
	known bool
	ahead time.Duration // of this machine's clock; 0 where they agree
}

// next is what to report after the difference was measured.
func (s skew) next(ahead time.Duration) skew {
	limit := uplink.Apart
	if s.ahead != 0 {
		limit = agreesAgain
	}
	switch {
	case ahead.Abs() <= limit:
		return skew{known: true}
	case s.ahead != 0 && (ahead-s.ahead).Abs() <= skewStep:
		return s
	}
	return skew{known: true, ahead: ahead}
}

func (s skew) condition() corev1.NodeCondition {
	c := corev1.NodeCondition{Type: clockSkew, Status: corev1.ConditionTrue}
	const what = "the clock is %s %s the server's: set the one that is wrong"
	switch {
	case s.ahead < 0:
		c.Reason, c.Message = reasonClockBehind, fmt.Sprintf(what, span(-s.ahead), "behind")
	case s.ahead > 0:
		c.Reason, c.Message = reasonClockAhead, fmt.Sprintf(what, span(s.ahead), "ahead of")
	default:
		c.Status, c.Reason, c.Message = corev1.ConditionFalse, reasonClockAgrees, "the clock agrees with the server's"
	}
	return c
}

// span says how long d is, in its two greatest units.
func span(d time.Duration) string {
	units := []struct {
		name string
		long time.Duration
	}{{"day", 24 * time.Hour}, {"hour", time.Hour}, {"minute", time.Minute}, {"second", time.Second}}
	count := func(i int) string {
		n := int64(d / units[i].long)
		d %= units[i].long
		if n == 1 {
			return "1 " + units[i].name
		}
		return fmt.Sprintf("%d %ss", n, units[i].name)
	}
	i := 0
	for i < len(units)-1 && d < units[i].long {
		i++
	}
	text := count(i)
	if i+1 < len(units) && d >= units[i+1].long {
		text += " " + count(i+1)
	}
	return text
}

// now is the servers' time, for what the API is told.
func (a *Agent) now() time.Time { return a.Time.Theirs(time.Now()) }

// lookAtClock brings up to date what is reported of the clock, and tells people
// when it begins or ceases to be wrong. Only who writes the Node calls it.
func (a *Agent) lookAtClock() skew {
	ahead, ok := a.Time.Ahead()
	if !ok {
		return a.skew
	}
	before := a.skew
	a.skew = before.next(ahead)
	c := a.skew.condition()
	switch wrong := a.skew.ahead != 0; {
	case wrong == (before.ahead != 0):
	case wrong:
		a.log.Warn("this machine's clock differs from the servers'", zap.Duration("ahead", a.skew.ahead))
		a.recorder.Event(a.nodeReference(), corev1.EventTypeWarning, reasonClockSkew, c.Message)
	default:
		a.log.Info("this machine's clock agrees with the servers' again")
		a.recorder.Event(a.nodeReference(), corev1.EventTypeNormal, c.Reason, c.Message)
	}
	return a.skew
}

// nodeReference names the Node as events do: its UID there is its name.
func (a *Agent) nodeReference() *corev1.ObjectReference {
	return &corev1.ObjectReference{Kind: "Node", APIVersion: "v1", Name: a.NodeName, UID: types.UID(a.NodeName)}
}

// runClock reacts to the servers' clock being set, until the context ends: by it
// the Pods' tokens have ended, or will last for years.
func (a *Agent) runClock(ctx context.Context) error {
	set := a.Time.Set()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-set:
			set = a.Time.Set() // before, so that another one is not missed
			a.log.Info("the servers' clock was set; the Pods' tokens are renewed")
			a.volumes.RenewTokens()
			a.pokeNode()
		}
	}
}
