package rest

import (
	"container/list"
	"net/http"
	"sync"
	"time"
)

// The patience that a server has with those it waits for: how many may keep it
// waiting at the same time, and each for how long where others come.
const (
	maxWaiting  = 1024
	waitingTime = 60 * time.Second
)

// patience knows the requests that wait for their own clients, to send a body or to
// take an answer. Each holds a goroutine and what it has read or is to write. Where
// they are too many, the one that has waited longest is ended.
type patience struct {
	most int
	time time.Duration

	mu    sync.Mutex // guards queue
	queue list.List  // *waiting, in the order of their beginning
}

type waiting struct {
	since time.Time
	cut   func()
}

func newPatience(most int, time time.Duration) *patience { return &patience{most: most, time: time} }

// begin notes that something waits until the function that it returns is called;
// cut may be called until then, and must not block.
func (p *patience) begin(cut func()) (end func()) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	for front := p.queue.Front(); front != nil; front = p.queue.Front() {
		w := front.Value.(*waiting)
		if p.queue.Len() < p.most && now.Sub(w.since) < p.time {
			break
		}
		p.queue.Remove(front)
		w.cut()
	}
	place := p.queue.PushBack(&waiting{now, cut})
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.queue.Remove(place) // does nothing where it was cut
	}
}

// past is a deadline that is over.
var past = time.Unix(1, 0)

// forBody is begin for reading a request's body.
func (p *patience) forBody(w http.ResponseWriter) (end func()) {
	control := http.NewResponseController(w)
	return p.begin(func() { _ = control.SetReadDeadline(past) })
}

// forAnswer is begin for writing.
func (p *patience) forAnswer(w http.ResponseWriter) (end func()) {
	control := http.NewResponseController(w)
	return p.begin(func() { _ = control.SetWriteDeadline(past) })
}
