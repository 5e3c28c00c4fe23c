package scheduler

import (
	"cmp"
	"container/heap"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// The pauses after a binding failed.
const (
	firstPause = time.Second
	longest    = 10 * time.Second
)

// queue holds the Pods that want a node: those to try now, by priority and age,
// and those for which nothing has changed since the last try.
type queue struct {
	all    map[types.UID]*waiting
	active active
}

// waiting is a Pod that wants a node.
type waiting struct {
	pod   *corev1.Pod
	index int // in active, -1 if it is not
	// helps are the changes that make another try worthwhile.
	helps    change
	failures int
	notYet   time.Time // a failed binding is not tried again before
	writing  bool      // a decision is being written
	again    bool      // something happened meanwhile
}

func newQueue() *queue { return &queue{all: map[types.UID]*waiting{}} }

// set adds a Pod, or takes in its new state and tries it again if that may
// matter.
func (q *queue) set(pod *corev1.Pod, again bool) {
	w, ok := q.all[pod.UID]
	if !ok {
		w = &waiting{pod: pod, index: -1}
		q.all[pod.UID] = w
		again = true
	}
	w.pod = pod
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
	delete(q.all, uid)
}

func (q *queue) activate(w *waiting) {
	switch {
	case w.writing:
		w.again = true
	case w.index < 0:
		heap.Push(&q.active, w)
	}
}

// next takes the Pod to try next, nil if there is none, and then how long until
// there will be (0: not by itself).
func (q *queue) next(now time.Time) (w *waiting, wait time.Duration) {
	if len(q.active) > 0 {
		return heap.Pop(&q.active).(*waiting), 0
	}
	for _, w := range q.all {
		if w.notYet.IsZero() || w.writing {
			continue
		}
		left := w.notYet.Sub(now)
		if left <= 0 {
			w.notYet = time.Time{}
			return w, 0
		}
		if wait == 0 || left < wait {
			wait = left
		}
	}
	return nil, wait
}

// happened tries again all Pods that the change may help.
func (q *queue) happened(c change) {
	for _, w := range q.all {
		if w.helps&c != 0 && w.notYet.IsZero() {
			q.activate(w)
		}
	}
}

// wrote notes that a decision has been written: what happened meanwhile counts
// now.
func (q *queue) wrote(w *waiting) {
	w.writing = false
	if w.again {
		w.again = false
		q.activate(w)
	}
}

// pause puts a Pod off after its decision could not be written.
func (q *queue) pause(w *waiting, now time.Time) {
	w.writing, w.again = false, false
	w.notYet = now.Add(min(firstPause<<min(w.failures, 10), longest))
	w.failures++
}

// active is a heap of Pods: higher priority first, then older.
type active []*waiting

func (a active) Len() int { return len(a) }

func (a active) Less(i, j int) bool {
	x, y := a[i].pod, a[j].pod
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
