// Package controller is the loop that every controller runs in: events of the
// state become keys, and each key is reconciled by one worker at a time.
//
// A Controller names its Sources and its Reconcile function; Run drives it. The
// invariant: a key for which something happened is reconciled after that, and
// again after every failure with a growing delay; nothing is done for a key to
// which nothing happens and which has set no deadline. The package never
// decides what to reconcile: each controller is a package below this one, with
// a pure plan and a thin apply.
package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skiff-sh/skiff/internal/api"
	"github.com/skiff-sh/skiff/internal/auth"
	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
)

// defaultWorkers is how many keys of one controller are reconciled at once.
const defaultWorkers = 4

// FieldManager is under what name controllers manage fields: upstream's, which
// tools are told to overlook.
const FieldManager = "kube-controller-manager"

// Controller brings the objects behind keys to where they should be.
type Controller[K comparable] struct {
	Name    string
	Sources []Source[K]
	// Reconcile is called for one key at a time, for several keys at once. A
	// positive again asks for another call after that time even if nothing
	// happens. An error is logged and the key tried again; a conflict or an
	// object that has gone is no news and only tried again.
	Reconcile func(ctx context.Context, key K) (again time.Duration, err error)
	Workers   int // 0: a few
}

// Runner is a controller of any key.
type Runner interface {
	Run(ctx context.Context, env Environment) error
}

// Source says which keys an event of a kind concerns.
type Source[K comparable] struct {
	Kind *kind.Kind
	Keys func(state.Event) []K
}

// Own is a source of the keys of a kind's own objects.
func Own(k *kind.Kind) Source[types.NamespacedName] {
	return Source[types.NamespacedName]{Kind: k, Keys: func(e state.Event) []types.NamespacedName {
		return []types.NamespacedName{Key(e.Object)}
	}}
}

// Owners is a source of the keys of the owners, of a certain kind, that control
// a kind's objects: before and after the change.
func Owners(k, owner *kind.Kind) Source[types.NamespacedName] {
	return Source[types.NamespacedName]{Kind: k, Keys: func(e state.Event) []types.NamespacedName {
		var keys []types.NamespacedName
		for _, obj := range []kind.Object{e.Object, e.Old} {
			if obj == nil {
				continue
			}
			ref := metav1.GetControllerOfNoCopy(obj)
			if ref == nil || ref.Kind != owner.Kind {
				continue
			}
			key := types.NamespacedName{Namespace: obj.GetNamespace(), Name: ref.Name}
			if len(keys) == 0 || keys[0] != key {
				keys = append(keys, key)
			}
		}
		return keys
	}}
}

// Key returns an object's key.
func Key(obj kind.Object) types.NamespacedName {
	return types.NamespacedName{Namespace: obj.GetNamespace(), Name: obj.GetName()}
}

// Environment is what every controller works with.
type Environment struct {
	State *state.State
	API   *api.API
	Log   *zap.Logger
	// Panics counts recovered panics of all controllers.
	Panics *atomic.Int64
}

// User is whom a controller acts as.
func User(name string) auth.User {
	return auth.User{
		Name:   "system:serviceaccount:kube-system:" + name,
		Groups: []string{auth.GroupServiceAccounts, auth.GroupServiceAccounts + ":kube-system", auth.GroupAuthenticated},
	}
}

// Terminating says whether something was not made because its namespace is being
// deleted: then there is nothing left to do.
func Terminating(err error) bool {
	return apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause)
}

// Run drives the controller until the context ends, which is no error.
func (c Controller[K]) Run(ctx context.Context, env Environment) error {
	l := &loop[K]{Controller: c, env: env, queue: newQueue[K](), log: env.Log.Named(c.Name)}
	group, running := errgroup.WithContext(ctx)
	group.Go(func() error { return l.followAll(running) })
	for range cmp.Or(c.Workers, defaultWorkers) {
		group.Go(func() error { return l.work(running) })
	}
	if err := group.Wait(); ctx.Err() == nil {
		return fmt.Errorf("controller %s: %w", c.Name, err)
	}
	return nil
}

// loop is a controller that runs.
type loop[K comparable] struct {
	Controller[K]
	env   Environment
	queue *queue[K]
	log   *zap.Logger
}

// followAll follows the sources. When one fell behind, all start over: what was
// missed may be a deletion, which only the other kinds' objects still tell of.
func (l *loop[K]) followAll(ctx context.Context) error {
	for {
		group, ctx := errgroup.WithContext(ctx)
		for _, source := range l.Sources {
			group.Go(func() error { return l.follow(ctx, source) })
		}
		if err := group.Wait(); !errors.Is(err, state.ErrExpired) {
			return err
		}
		l.log.Info("controller fell behind and starts over")
	}
}

// follow turns what there is of a source, and what happens to it, into keys.
func (l *loop[K]) follow(ctx context.Context, source Source[K]) error {
	note := func(e state.Event) {
		for _, key := range source.Keys(e) {
			l.queue.add(key)
		}
	}
	snapshot, watch := l.env.State.ListWatch(source.Kind, state.Interest{})
	defer watch.Stop()
	snapshot.Ascend(state.Interest{}, "", func(obj kind.Object) bool {
		note(state.Event{Type: state.Added, Object: obj})
		return true
	})
	return drain(ctx, watch, note)
}

func drain(ctx context.Context, watch *state.Watch, note func(state.Event)) error {
	for {
		e, err := watch.Next(ctx)
		if err != nil {
			return err
		}
		note(e)
	}
}

// work reconciles keys until the context ends.
func (l *loop[K]) work(ctx context.Context) error {
	for ctx.Err() == nil {
		key, wait, ok := l.queue.take()
		if ok {
			again, err := l.reconcile(ctx, key)
			l.queue.done(key, again, l.failed(key, err))
			continue
		}
		if err := l.rest(ctx, wait); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// rest waits until there may be something to do.
func (l *loop[K]) rest(ctx context.Context, wait time.Duration) error {
	var deadline <-chan time.Time
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		deadline = timer.C
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-l.queue.wake:
	case <-deadline:
	}
	return nil
}

// reconcile calls Reconcile and turns a panic into an error: one poisoned
// object must not stop the others.
func (l *loop[K]) reconcile(ctx context.Context, key K) (again time.Duration, err error) {
	defer func() {
		if r := recover(); r != nil {
			if l.env.Panics != nil {
				l.env.Panics.Add(1)
			}
			l.log.Error("reconcile panicked", zap.Any("key", key), zap.Any("panic", r), zap.Stack("stack"))
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	return l.Reconcile(ctx, key)
}

func (l *loop[K]) failed(key K, err error) bool {
	switch {
	case err == nil, errors.Is(err, context.Canceled):
		return false
	case apierrors.IsConflict(err), apierrors.IsNotFound(err), apierrors.IsAlreadyExists(err):
		l.log.Debug("reconcile again", zap.Any("key", key), zap.Error(err))
	default:
		l.log.Warn("reconcile failed", zap.Any("key", key), zap.Error(err))
	}
	return true
}

// InEachNamespace are the sources of a controller that keeps one object of a
// kind and name in every namespace; its keys are the namespaces' own.
func InEachNamespace(k *kind.Kind, name string) []Source[types.NamespacedName] {
	return []Source[types.NamespacedName]{
		Own(kind.Namespace),
		{Kind: k, Keys: func(e state.Event) []types.NamespacedName {
			if e.Object.GetName() != name {
				return nil
			}
			return []types.NamespacedName{{Name: e.Object.GetNamespace()}}
		}},
	}
}
