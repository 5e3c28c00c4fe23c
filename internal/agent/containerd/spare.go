package containerd

import (
	"context"
	"errors"
	"os"

	"go.uber.org/zap"
)

// spareDir is the directory of the spare shim among those of the Pods: whoever
// cleans up these removes it too. No Pod's UID begins with a dot.
const spareDir = ".spare"

// takeSpare gives a Pod the spare shim, or nil if there is none for it. A Pod that
// has a directory already has one that is not empty, with the name of its own
// program for one, and starts a shim of its own.
func (r *Runtime) takeSpare(dir string) *pod {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.spare
	if p == nil {
		return nil
	}
	if !p.alive() {
		r.spare = nil
		return nil
	}
	// Its sockets and its log, which it has open, go with the directory.
	if err := os.Rename(p.dir, dir); err != nil {
		return nil
	}
	r.spare, p.dir = nil, dir
	return p
}

// wantSpare has a shim made that waits for the next Pod, beside what goes on, if
// there is none: a Pod that comes then need not wait for a process to begin. It is
// for when a container has started: a node without Pods has no shims.
func (r *Runtime) wantSpare() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.sparing != nil || r.spare != nil && r.spare.alive() {
		return
	}
	made := make(chan struct{})
	r.sparing = made
	r.tasks.Go(func() {
		defer close(made)
		p, err := r.startShim(r.podDir(spareDir))
		r.mu.Lock()
		r.sparing = nil
		late := r.closed
		if err == nil && !late {
			r.spare = p
		}
		r.mu.Unlock()
		if err == nil && late {
			err = r.removeSpare(p)
		}
		if err != nil {
			r.config.Log.Warn("spare shim; the next Pod starts one for itself", zap.Error(err))
		}
	})
}

// endSpare ends the spare shim, also one that is being made.
func (r *Runtime) endSpare() error {
	r.mu.Lock()
	made := r.sparing
	r.mu.Unlock()
	if made != nil {
		<-made
	}
	r.mu.Lock()
	p := r.spare
	r.spare = nil
	r.mu.Unlock()
	return r.removeSpare(p)
}

// removeSpare ends a spare shim that nobody can take any more.
func (r *Runtime) removeSpare(p *pod) error {
	if p == nil {
		return nil
	}
	return errors.Join(p.shutdown(context.Background()), os.RemoveAll(r.podDir(spareDir)))
}
