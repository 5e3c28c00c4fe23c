package node

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

// errGiveUp ends a retry at once.
var errGiveUp = errors.New("hopeless")

// retry calls fn until it returns nil. It is for what tells nobody that it
// happened, such as a port that opens; what the API knows is awaited.
func retry(ctx context.Context, fn func() error) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := fn()
		if err == nil || errors.Is(err, errGiveUp) {
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

// await watches until the condition holds for an object, of that name unless
// it is empty, and returns it. A nil condition waits until there is none.
func await[T runtime.Object, L runtime.Object](ctx context.Context, c collection[L], _ *T, name string, condition func(T) bool) (T, error) {
	var zero T
	options := metav1.ListOptions{}
	if name != "" {
		options.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()
	}
	last := "nothing"
	for ctx.Err() == nil {
		found, seen, err := awaitOnce(ctx, c, options, condition)
		if seen != nil {
			last = show(seen)
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

func awaitOnce[T runtime.Object, L runtime.Object](ctx context.Context, c collection[L], options metav1.ListOptions, condition func(T) bool) (found T, seen runtime.Object, err error) {
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

func show(o runtime.Object) string {
	text, err := yaml.Marshal(o)
	if err != nil {
		return err.Error()
	}
	return string(text)
}
