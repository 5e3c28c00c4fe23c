package api

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// collectionWorkers delete at once, so that the store writes many deletions with
// one sync.
const collectionWorkers = 32

// collectionPage is how much of a collection is listed at once where the options say
// nothing of it: upstream's figure.
const collectionPage = 10000

// DeleteCollection deletes what the options select and returns it. What others
// removed meanwhile is passed over. The error is that of the first object, in the
// list's order, that could not be deleted.
func (a *API) DeleteCollection(ctx context.Context, req Request, list ListOptions, options metav1.DeleteOptions) (*List, error) {
	if err := checkDeleteOptions(&options); err != nil {
		return nil, err
	}
	listed, err := a.collection(ctx, req, list)
	if err != nil {
		return nil, err
	}
	workers := collectionWorkers
	if options.Preconditions != nil { // which one object may fulfil: none behind another is touched
		workers = 1
	}
	var deletions errgroup.Group
	deletions.SetLimit(workers)
	var failed atomic.Bool
	errs := make([]error, len(listed.Items))
	for i, item := range listed.Items {
		one := req
		one.Namespace, one.Name = item.GetNamespace(), item.GetName()
		deletions.Go(func() error {
			if failed.Load() {
				return nil
			}
			errs[i] = a.deleteItem(ctx, one, options)
			failed.CompareAndSwap(false, errs[i] != nil)
			return nil
		})
	}
	_ = deletions.Wait()
	for _, err := range errs {
		var p panicked
		if errors.As(err, &p) {
			panic(p.Error()) // belongs to the request, whose owner recovers it
		}
		if err != nil {
			return nil, err
		}
	}
	return listed, nil
}

// deleteItem deletes one object of a collection.
func (a *API) deleteItem(ctx context.Context, req Request, options metav1.DeleteOptions) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = panicked{p, debug.Stack()}
		}
	}()
	if _, _, err := a.Delete(ctx, req, options); !apierrors.IsNotFound(err) {
		return err
	}
	return nil
}

// collection lists all that is to be deleted, in pages unless the options limit it,
// which is why their resourceVersion is an exact one.
func (a *API) collection(ctx context.Context, req Request, options ListOptions) (*List, error) {
	if options.Limit > 0 {
		return a.List(ctx, req, options)
	}
	options.Limit = collectionPage
	all, err := a.List(ctx, req, options)
	if err != nil {
		return nil, err
	}
	for all.Continue != "" {
		options.Continue, options.ResourceVersion, options.ResourceVersionMatch = all.Continue, "", ""
		next, err := a.List(ctx, req, options)
		if err != nil {
			return nil, err
		}
		all.Items, all.Continue, all.Remaining = append(all.Items, next.Items...), next.Continue, nil
	}
	return all, nil
}

// panicked carries a worker's panic to whoever waits for it.
type panicked struct {
	value any
	stack []byte
}

func (p panicked) Error() string { return fmt.Sprintf("%v\n%s", p.value, p.stack) }
