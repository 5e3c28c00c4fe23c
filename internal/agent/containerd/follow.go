package containerd

import (
	"context"
	"sync"

	"github.com/skiff-sh/skiff/internal/agent"
)

// watcher holds what one Follow has not told yet.
type watcher struct {
	mu    sync.Mutex // of queue
	queue []agent.ContainerState
	wake  chan struct{}
}

// Follow implements agent.Runtime. fn is called from one goroutine, in the
// order of what happened; a slow fn delays nobody else.
func (r *Runtime) Follow(ctx context.Context, fn func(agent.ContainerState)) error {
	w := &watcher{wake: make(chan struct{}, 1)}
	r.mu.Lock()
	r.watchers[w] = struct{}{}
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.watchers, w)
	}()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.ended.Done():
			return nil
		case <-w.wake:
		}
		for _, s := range w.take() {
			fn(s)
		}
	}
}

func (w *watcher) take() []agent.ContainerState {
	w.mu.Lock()
	defer w.mu.Unlock()
	queue := w.queue
	w.queue = nil
	return queue
}

func (w *watcher) add(s agent.ContainerState) {
	w.mu.Lock()
	w.queue = append(w.queue, s)
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// announce tells followers of a state; the caller holds r.mu, so that states
// are told in the order in which they came to be.
func (r *Runtime) announce(s agent.ContainerState) {
	for w := range r.watchers {
		w.add(s)
	}
}
