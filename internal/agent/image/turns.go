package image

import "context"

// turns lets so many at a time work; nil: all.
type turns chan struct{}

func newTurns(atOnce int) turns {
	if atOnce == 0 {
		return nil
	}
	return make(turns, atOnce)
}

// take waits for a turn, which give returns. The error is the context's.
func (t turns) take(ctx context.Context) error {
	if t == nil {
		return ctx.Err()
	}
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t turns) give() {
	if t != nil {
		<-t
	}
}
