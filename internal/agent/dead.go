package agent

import (
	"cmp"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"

	"github.com/skiff-sh/skiff/internal/config"
)

// deadLook is how often the node looks for attempts of containers of which nothing is
// to be kept any more.
const deadLook = time.Minute

// deadRun is an attempt of a container that has ended and of which something is left.
type deadRun struct {
	worker  *worker
	name    string
	attempt int
	made    time.Time
	over    bool // its Pod has ended
}

// superfluous are those of which nothing is to be kept: of each container the oldest
// ones, then of the containers with the most, then the oldest of all. Those of Pods
// that have ended all go when the node is short of room. It is pure.
func superfluous(all []deadRun, d config.DeadContainers, short bool, now time.Time) (gone []deadRun) {
	type unit struct {
		w    *worker
		name string
	}
	units := map[unit][]deadRun{}
	count := 0
	for _, r := range all {
		switch {
		case short && r.over:
			gone = append(gone, r)
		case d.MinimumAge <= 0 || now.Sub(r.made) >= d.MinimumAge: // clocks may be set
			u := unit{r.worker, r.name}
			units[u] = append(units[u], r)
			count++
		}
	}
	keep := func(most int) {
		for u, runs := range units {
			if over := len(runs) - most; over > 0 {
				slices.SortFunc(runs, func(x, y deadRun) int { return cmp.Compare(x.attempt, y.attempt) })
				gone = append(gone, runs[:over]...)
				units[u] = runs[over:]
				count -= over
			}
		}
	}
	if d.PerContainer >= 0 {
		keep(d.PerContainer)
	}
	if d.All < 0 || count <= d.All {
		return gone
	}
	keep(max(d.All/len(units), 1))
	var rest []deadRun
	for _, runs := range units {
		rest = append(rest, runs...)
	}
	slices.SortFunc(rest, func(x, y deadRun) int { return x.made.Compare(y.made) })
	return append(gone, rest[:max(len(rest)-d.All, 0)]...)
}

// deadCollection is when the node looked last; for runNode alone.
type deadCollection struct{ looked time.Time }

// collectDead removes what is not to be kept of ended attempts, as often as is worth it.
func (a *Agent) collectDead(now time.Time) {
	if now.Sub(a.dead.looked) < deadLook {
		return
	}
	a.dead.looked = now
	a.buryDead(false)
}

// buryDead removes what is not to be kept of ended attempts.
func (a *Agent) buryDead(short bool) {
	var all []deadRun
	d := a.Kubelet.Dead
	for _, w := range a.allWorkers() {
		least := d.PerContainer // fewer are no reason to look closer
		if d.All >= 0 || short {
			least = 0
		}
		all = append(all, w.deadRuns(least)...)
	}
	for _, r := range superfluous(all, d, short, time.Now()) {
		if err := r.worker.bury(r.name, r.attempt); err != nil {
			a.log.Warn("remove what is left of an ended container", zap.String("container", r.name), zap.Error(err))
		}
	}
}

// deadRuns are the Pod's ended attempts, of containers that have more of them than
// that.
func (w *worker) deadRuns(more int) (out []deadRun) {
	w.mu.Lock()
	pod, over, gone, names := w.pod, w.ended, w.gone, w.endedAttempts()
	w.mu.Unlock()
	if gone {
		return nil
	}
	for name, ended := range names {
		if more >= 0 && ended <= more {
			continue
		}
		for attempt, made := range attempts(filepath.Dir(w.logPath(pod, name, 0))) {
			if attempt < ended {
				out = append(out, deadRun{worker: w, name: name, attempt: attempt, made: made, over: over})
			}
		}
	}
	return out
}

// endedAttempts are how many attempts of each container have ended; w.mu is held.
func (w *worker) endedAttempts() map[string]int {
	all := map[string]int{}
	for name, r := range w.records {
		all[name] = r.NextAttempt
		if r.Current != nil && !r.Current.exited() {
			all[name] = r.Current.Attempt
		}
	}
	if len(w.records) > 0 || !terminal(w.pod) {
		return all
	}
	// It ended before the agent started.
	s := &w.pod.Status
	for _, list := range [][]corev1.ContainerStatus{s.InitContainerStatuses, s.ContainerStatuses, s.EphemeralContainerStatuses} {
		for i := range list {
			all[list[i].Name] = int(list[i].RestartCount) + 1
		}
	}
	return all
}

// attempts are those of which a directory has files, whose names begin with their
// number, and when the first of them was written to last.
func attempts(dir string) map[int]time.Time {
	all := map[int]time.Time{}
	entries, _ := os.ReadDir(dir) // none: none
	for _, e := range entries {
		n, ok := attemptOf(e.Name())
		info, err := e.Info()
		if !ok || err != nil {
			continue
		}
		if at, known := all[n]; !known || info.ModTime().Before(at) {
			all[n] = info.ModTime()
		}
	}
	return all
}

func attemptOf(file string) (int, bool) {
	number, _, _ := strings.Cut(file, ".")
	n, err := strconv.Atoi(number)
	return n, err == nil
}

// bury removes the logs and the termination message of an attempt that has ended.
func (w *worker) bury(name string, attempt int) error {
	w.mu.Lock()
	pod := w.pod
	w.mu.Unlock()
	var errs []error
	for _, dir := range []string{filepath.Dir(w.logPath(pod, name, 0)), filepath.Dir(w.terminationFile(w.uid, name, 0))} {
		entries, _ := os.ReadDir(dir) // none: nothing to do
		for _, e := range entries {
			if n, ok := attemptOf(e.Name()); ok && n == attempt {
				errs = append(errs, os.Remove(filepath.Join(dir, e.Name())))
			}
		}
	}
	return errors.Join(errs...)
}
