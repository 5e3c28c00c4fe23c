package config

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Shutdown is how long a machine that goes down waits for its Pods to end; without
// anything said it does not wait.
type Shutdown struct {
	Grace      time.Duration   // for all Pods together
	Critical   time.Duration   // the part of it that critical ones have for themselves
	ByPriority []ShutdownGroup // in place of both
}

// ShutdownGroup is the time for Pods of a priority or more, up to the next group's.
type ShutdownGroup struct {
	Priority int32
	Time     time.Duration // whole seconds
}

// systemCritical is the priority of Pods that the system needs.
const systemCritical = 2_000_000_000

// Groups are the groups in the order in which they end; none: the machine does not
// wait.
func (s Shutdown) Groups() []ShutdownGroup {
	if len(s.ByPriority) > 0 {
		return slices.SortedStableFunc(slices.Values(s.ByPriority), func(x, y ShutdownGroup) int { return cmp.Compare(x.Priority, y.Priority) })
	}
	if s.Grace == 0 {
		return nil
	}
	return []ShutdownGroup{
		{Time: (s.Grace - s.Critical).Truncate(time.Second)},
		{Priority: systemCritical, Time: s.Critical.Truncate(time.Second)},
	}
}

// arguments reads the settings of a kubelet's configuration, for which upstream has no
// arguments.
func (s *Shutdown) arguments() map[string]func(string) error {
	return map[string]func(string) error{
		"shutdown-grace-period":                 anyDurationInto(&s.Grace),
		"shutdown-grace-period-critical-pods":   anyDurationInto(&s.Critical),
		"shutdown-grace-period-by-pod-priority": groupsInto(&s.ByPriority),
	}
}

// validate says what does not fit together.
func (s *Shutdown) validate() error {
	short := func(d time.Duration) bool { return d < 0 || d > 0 && d < time.Second }
	switch {
	case s.Critical > s.Grace:
		return fmt.Errorf("invalid configuration: shutdownGracePeriodCriticalPods %s must be <= shutdownGracePeriod %s", s.Critical, s.Grace)
	case short(s.Grace):
		return fmt.Errorf("invalid configuration: shutdownGracePeriod %s must be either zero or otherwise >= 1 sec", s.Grace)
	case short(s.Critical):
		return fmt.Errorf("invalid configuration: shutdownGracePeriodCriticalPods %s must be either zero or otherwise >= 1 sec", s.Critical)
	case len(s.ByPriority) > 0 && (s.Grace > 0 || s.Critical > 0):
		return fmt.Errorf("invalid configuration: Cannot specify both shutdownGracePeriodByPodPriority and shutdownGracePeriod at the same time")
	}
	return nil
}

// anyDurationInto leaves negative ones to whoever validates.
func anyDurationInto(d *time.Duration) func(string) error {
	return func(text string) (err error) {
		*d, err = time.ParseDuration(text)
		return err
	}
}

// groupsInto reads "PRIORITY=SECONDS,…".
func groupsInto(groups *[]ShutdownGroup) func(string) error {
	return func(text string) error {
		*groups = nil
		for part := range strings.SplitSeq(text, ",") {
			priority, seconds, _ := strings.Cut(part, "=")
			p, err1 := strconv.ParseInt(priority, 10, 32)
			s, err2 := strconv.ParseInt(seconds, 10, 32)
			if err1 != nil || err2 != nil || s < 0 {
				return fmt.Errorf("%q: expected PRIORITY=SECONDS", part)
			}
			*groups = append(*groups, ShutdownGroup{Priority: int32(p), Time: time.Duration(s) * time.Second})
		}
		return nil
	}
}
