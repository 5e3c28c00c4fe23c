package rest

import (
	"context"
	"math"
	"net/http"
	"runtime/debug"

	"golang.org/x/sync/semaphore"
	"k8s.io/apimachinery/pkg/api/errors"
)

// memoryLimit is what this process may use, as the runtime was told, a gigabyte where
// it was told nothing. More than two are no reason to let more be wasted.
func memoryLimit() int64 {
	limit := debug.SetMemoryLimit(-1)
	if limit == math.MaxInt64 {
		return 1 << 30
	}
	return min(limit, 2<<30)
}

// budget is memory that requests share: who wants much of it waits for others.
type budget struct {
	places *semaphore.Weighted
	bytes  int64
	// waiting bounds who may wait: they have something in memory themselves.
	waiting chan struct{}
}

func newBudget(bytes int64, waiting int) *budget {
	return &budget{semaphore.NewWeighted(bytes), bytes, make(chan struct{}, waiting)}
}

// take waits until so much of the budget is free; what is larger than all of it has
// it alone. The function gives it back.
func (b *budget) take(ctx context.Context, bytes int64) (give func(), err error) {
	bytes = min(bytes, b.bytes)
	if give := b.try(bytes); give != nil {
		return give, nil
	}
	select {
	case b.waiting <- struct{}{}:
		defer func() { <-b.waiting }()
	default:
		return nil, errors.NewTooManyRequests("Too many requests, please try again later.", 1)
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if err := b.places.Acquire(ctx, bytes); err != nil {
		return nil, errors.NewTooManyRequests("Too many requests, please try again later.", 1)
	}
	return func() { b.places.Release(bytes) }, nil
}

// try is take without waiting: nil where there is no room.
func (b *budget) try(bytes int64) (give func()) {
	bytes = min(bytes, b.bytes)
	if !b.places.TryAcquire(bytes) {
		return nil
	}
	return func() { b.places.Release(bytes) }
}

// holder is an answer that knows what its request holds until it ends.
type holder interface{ hold(give func()) }

// hold has something given back when the request ends.
func hold(w http.ResponseWriter, give func()) {
	if h, ok := w.(holder); ok {
		h.hold(give)
		return
	}
	give()
}

// release gives back what a request holds before it ends.
func release(w http.ResponseWriter) {
	if s, ok := w.(*statusWriter); ok {
		s.release()
	}
}
