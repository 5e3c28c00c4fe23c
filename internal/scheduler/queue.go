package scheduler

import (
	"cmp"
	"container/heap"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Pods that fit nowhere are tried again at once when something changed, until
// they have failed quickTries times; from then on, and after a decision that
// could not be written, they rest in between, as long as upstream's do.
const (
	quickTries = 8
	firstPause = time.Second
	longest    = 10 * time.Second
)

// queue holds the Pods that want a node. Each is in one of four places: active
// (to be tried now, by priority and age), resting (to be tried when its pause
// is over), parked (until something changes that may help) or writing (while a
// decision is written).
type queue struct {
	all     map[types.UID]*waiting
	active  active
	resting map[*waiting]struct{}
	parked  map[*waiting]struct{}
	writing map[*waiting]struct{}
}

// waiting is a Pod that wants a node.
type waiting struct {
	info  *podInfo
	index int // in active, -1 if it is not
	// helps are the changes that make another try worthwhile; others says that
	// they may happen on any node.
	helps  change
	others bool
	tries  int
	notYet time.Time // not tried again before
	again  bool      // something happened while a decision was written
}

func newQueue() *queue {
	return &queue{
		all: map[types.UID]*waiting{}, resting: map[*waiting]struct{}{}, parked: map[*waiting]struct{}{},
		writing: map[*waiting]struct{}{},
	}
}

// set adds a Pod, or takes in its new state and tries it again if that may
// matter.
func (q *queue) set(pod *corev1.Pod, again bool) {
	w, ok := q.all[pod.UID]
	switch {
	case !ok:
		w = &waiting{info: newPodInfo(pod), index: -1}
		q.all[pod.UID] = w
		again = true
	case w.info.same(pod):
		info := *w.info // the old one may be in the cluster
		info.pod = pod
		w.info = &info
	default:
		w.info = newPodInfo(pod)
	}
	if again {
		q.activate(w)
	}
}

func (q *queue) remove(uid types.UID) {
	w, ok := q.all[uid]
	if !ok {
		return
	}
	if w.index >= 0 {
		heap.Remove(&q.active, w.index)
	}
	delete(q.resting, w)
	delete(q.parked, w)
	delete(q.writing, w)
	delete(q.all, uid)
}

// activate has the Pod tried as soon as may be.
func (q *queue) activate(w *waiting) {
	_, writing := q.writing[w]
	switch {
	case writing:
		w.again = true
	case !w.notYet.IsZero():
		delete(q.parked, w)
		q.resting[w] = struct{}{}
	case w.index < 0:
		delete(q.parked, w)
		heap.Push(&q.active, w)
	}
}

// next takes the Pod to try next, nil if there is none, and then how long until
// there will be (0: not by itself).
func (q *queue) next(now time.Time) (w *waiting, wait time.Duration) {
	for w := range q.resting {
		left := w.notYet.Sub(now)
		if left <= 0 {
			delete(q.resting, w)
			w.notYet = time.Time{}
			heap.Push(&q.active, w)
		} else if wait == 0 || left < wait {
			wait = left
		}
	}
	if len(q.active) > 0 {
		return heap.Pop(&q.active).(*waiting), 0
	}
	return nil, wait
}

// happened tries again the parked Pods that the change may help, of those that
// also the caller thinks so of.
func (q *queue) happened(c change, helps func(*waiting) bool) {
	for w := range q.parked {
		if w.helps&c != 0 && helps(w) {
			q.activate(w)
		}
	}
	for w := range q.writing {
		w.again = w.again || w.helps&c != 0
	}
}

// failed notes that a Pod fits nowhere, and what may change that.
func (q *queue) failed(w *waiting, p Plan, now time.Time) {
	w.helps, w.others = p.helps, p.others
	if w.tries++; w.tries > quickTries {
		w.notYet = now.Add(pause(w.tries - quickTries))
	}
}

// wrote notes that a Pod's failure has been told: what happened meanwhile counts
// now.
func (q *queue) wrote(w *waiting, now time.Time) {
	delete(q.writing, w)
	if !w.notYet.After(now) {
		w.notYet = time.Time{}
	}
	if w.again {
		w.again = false
		q.activate(w)
		return
	}
	q.parked[w] = struct{}{}
}

// later puts a Pod off after its decision could not be written.
func (q *queue) later(w *waiting, now time.Time) {
	delete(q.writing, w)
	w.again = false
	w.tries++
	w.notYet = now.Add(pause(w.tries))
	q.resting[w] = struct{}{}
}

func pause(tries int) time.Duration { return min(firstPause<<min(max(tries-1, 0), 10), longest) }

// active is a heap of Pods: higher priority first, then older.
type active []*waiting

func (a active) Len() int { return len(a) }

func (a active) Less(i, j int) bool {
	x, y := a[i].info.pod, a[j].info.pod
	return cmp.Or(-cmp.Compare(priority(x), priority(y)),
		x.CreationTimestamp.Compare(y.CreationTimestamp.Time), cmp.Compare(x.UID, y.UID)) < 0
}

func priority(pod *corev1.Pod) int32 {
	if pod.Spec.Priority == nil {
		return 0
	}
	return *pod.Spec.Priority
}

func (a active) Swap(i, j int) {
	a[i], a[j] = a[j], a[i]
	a[i].index, a[j].index = i, j
}

// Push is of heap.Interface.
func (a *active) Push(x any) {
	w := x.(*waiting)
	w.index = len(*a)
	*a = append(*a, w)
}

// Pop is of heap.Interface.
func (a *active) Pop() any {
	old := *a
	w := old[len(old)-1]
	w.index = -1
	*a = old[:len(old)-1]
	return w
}
