// Package await waits for what a cluster does: Object watches until a condition
// holds, Try repeats what tells nobody that it happened.
//
// Both end with the context, and then say what was seen last. The package only
// reads.
package await

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/yaml"
)

// ErrGiveUp ends a Try at once.
var ErrGiveUp = errors.New("hopeless")

// Try calls fn until it returns nil. It is for what tells nobody that it
// happened, such as a port that opens; what the API knows is for Object.
func Try(ctx context.Context, fn func() error) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := fn()
		if err == nil || errors.Is(err, ErrGiveUp) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: last: %w", ctx.Err(), err)
		case <-tick.C:
		}
	}
}

// collection is the part of a typed client that waiting needs.
type collection[L runtime.Object] interface {
	List(context.Context, metav1.ListOptions) (L, error)
	Watch(context.Context, metav1.ListOptions) (watch.Interface, error)
}

// Object watches until the condition holds for an object, of that name unless
// it is empty, and returns it. A nil condition waits until there is none.
func Object[T runtime.Object, L runtime.Object](ctx context.Context, c collection[L], _ *T, name string, condition func(T) bool) (T, error) {
	var zero T
	options := metav1.ListOptions{}
	if name != "" {
		options.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()
	}
	last := "nothing"
	for ctx.Err() == nil {
		found, seen, err := once(ctx, c, options, condition)
		if seen != nil {
			last = Show(seen)
		}
		if err == nil {
			return found, nil
		}
		if !errors.Is(err, errWatchEnded) {
			return zero, fmt.Errorf("wait for %q: %w: last seen: %s", name, err, last)
		}
	}
	return zero, fmt.Errorf("wait for %q: %w: last seen: %s", name, ctx.Err(), last)
}

var errWatchEnded = errors.New("watch ended")

func once[T runtime.Object, L runtime.Object](ctx context.Context, c collection[L], options metav1.ListOptions, condition func(T) bool) (found T, seen runtime.Object, err error) {
	list, err := c.List(ctx, options)
	if err != nil {
		return found, nil, err
	}
	items, err := itemsOf[T](list)
	if err != nil {
		return found, nil, err
	}
	if condition == nil && len(items) == 0 {
		return found, nil, nil
	}
	for _, item := range items {
		seen = item
		if condition != nil && condition(item) {
			return item, item, nil
		}
	}
	left := len(items)
	options.ResourceVersion = any(list).(metav1.ListInterface).GetResourceVersion()
	w, err := c.Watch(ctx, options)
	if err != nil {
		return found, seen, err
	}
	defer w.Stop()
	for event := range w.ResultChan() {
		item, ok := event.Object.(T)
		if !ok {
			return found, seen, fmt.Errorf("%w: %v", errWatchEnded, event.Object)
		}
		seen = item
		switch {
		case event.Type == watch.Deleted:
			left--
			if condition == nil && left == 0 {
				return item, item, nil
			}
		case condition != nil && condition(item):
			return item, item, nil
		case event.Type == watch.Added:
			left++
		}
	}
	return found, seen, errWatchEnded
}

func itemsOf[T runtime.Object](list runtime.Object) ([]T, error) {
	var items []T
	err := meta.EachListItem(list, func(o runtime.Object) error {
		items = append(items, o.(T))
		return nil
	})
	return items, err
}

// Show is an object as text, or why it has none.
func Show(o runtime.Object) string {
	text, err := yaml.Marshal(o)
	if err != nil {
		return err.Error()
	}
	return string(text)
}
