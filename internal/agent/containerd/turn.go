package containerd

import (
	"context"
	"runtime"
	"sync"
	"time"
)

// turnPatience is how long a container that is being made keeps others from
// beginning: one that hangs must not stop them for good.
const turnPatience = 5 * time.Second

// newTurns says how many containers are made at once. It is work for processors:
// of many Pods that come together, with turns the first run while others have yet
// to begin; without, all are made slowly and run at the end.
func newTurns() chan struct{} { return make(chan struct{}, max(4, 2*runtime.NumCPU())) }

// turn waits until it is a container's turn to be made, in the order in which they
// came. The caller ends it.
func (r *Runtime) turn(ctx context.Context) (end func(), err error) {
	select {
	case r.turns <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	var once sync.Once
	over := func() { once.Do(func() { <-r.turns }) }
	late := time.AfterFunc(turnPatience, over)
	return func() { late.Stop(); over() }, nil
}
