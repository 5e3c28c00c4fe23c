package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/skiff-sh/skiff/e2e/bench/load"
)

// errWatchEnded says that a server ended a watch.
var errWatchEnded = errors.New("the watch has ended")

// watch measures the time from before a write is sent until another client, which
// watches, has decoded it.
func (b *bench) watch(ctx context.Context) error {
	const namespace, name = "watch", "watched"
	watches := map[*side]watch.Interface{}
	for _, s := range b.sides {
		if err := s.namespace(ctx, namespace); err != nil {
			return err
		}
		created, err := s.client.CoreV1().ConfigMaps(namespace).Create(ctx, load.ConfigMap(name, ""), metav1.CreateOptions{})
		if err != nil {
			return err
		}
		clients, err := load.Clients(ctx, s.config, 1)
		if err != nil {
			return err
		}
		options := metav1.ListOptions{ResourceVersion: created.ResourceVersion}
		if watches[s], err = clients[0].CoreV1().ConfigMaps(namespace).Watch(ctx, options); err != nil {
			return err
		}
		defer watches[s].Stop()
	}
	return b.turns(func(_ int, s *side) error {
		return b.measure(s, "watch", func() (load.Outcome, error) { return b.watchSpell(ctx, s, watches[s], namespace, name) })
	})
}

// watchSpell writes and waits for the event in turns. What counts is when the event
// came, which may be before the write was answered.
func (b *bench) watchSpell(ctx context.Context, s *side, w watch.Interface, namespace, name string) (load.Outcome, error) {
	maps := s.client.CoreV1().ConfigMaps(namespace)
	tags, seen := make(chan string, 1), make(chan time.Time, 1)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer close(tags)
	watching.Go(func() {
		for tag := range tags {
			for event := range w.ResultChan() {
				if m, ok := event.Object.(*corev1.ConfigMap); ok && m.Data["tag"] == tag {
					seen <- time.Now()
					break
				}
			}
		}
	})
	var took []time.Duration
	o, err := load.Run(ctx, 1, b.spell, func(ctx context.Context, _, _ int) error {
		began := time.Now()
		tag := began.String()
		tags <- tag
		if _, err := maps.Update(ctx, load.ConfigMap(name, tag), metav1.UpdateOptions{}); err != nil {
			return err
		}
		select {
		case at := <-seen:
			took = append(took, at.Sub(began))
			return nil
		case <-time.After(10 * time.Second):
			return errWatchEnded
		}
	})
	o.Took = took
	return o, err
}

// A thousand watchers are on several connections: upstream's server takes at most
// a hundred streams on one.
const (
	watchConnections = 20
	watchesEach      = 50
)

// watchers measures the time from before a write is sent until the last of a
// thousand watchers has read the event. They do not decode it, which would be most
// of the work where clients and server are on the same machine.
func (b *bench) watchers(ctx context.Context) error {
	const namespace, name = "watchers", "watched"
	ctx, end := context.WithCancel(ctx)
	var reading sync.WaitGroup
	defer reading.Wait()
	defer end()
	seen := map[*side]chan error{}
	for _, s := range b.sides {
		if err := s.namespace(ctx, namespace); err != nil {
			return err
		}
		created, err := s.client.CoreV1().ConfigMaps(namespace).Create(ctx, load.ConfigMap(name, ""), metav1.CreateOptions{})
		if err != nil {
			return err
		}
		seen[s] = make(chan error, watchConnections*watchesEach)
		if err := s.watchLines(ctx, namespace, created.ResourceVersion, &reading, seen[s]); err != nil {
			return err
		}
		u, err := s.usage()
		if err != nil {
			return err
		}
		b.results.addUsage(s, "watchers_1000", u)
	}
	return b.turns(func(_ int, s *side) error {
		return b.measure(s, "watchers_1000", func() (load.Outcome, error) {
			return load.Run(ctx, 1, b.spell, func(ctx context.Context, _, _ int) error {
				m := load.ConfigMap(name, time.Now().String())
				if _, err := s.client.CoreV1().ConfigMaps(namespace).Update(ctx, m, metav1.UpdateOptions{}); err != nil {
					return err
				}
				for range watchConnections * watchesEach {
					if err := <-seen[s]; err != nil {
						return err
					}
				}
				return nil
			})
		})
	})
}

// watchLines opens the watches and sends nil for every line that one of them reads,
// an error when it ends.
func (s *side) watchLines(ctx context.Context, namespace, revision string, reading *sync.WaitGroup, seen chan<- error) error {
	clients, err := load.Clients(ctx, s.config, watchConnections)
	if err != nil {
		return err
	}
	for _, client := range clients {
		for range watchesEach {
			stream, err := client.CoreV1().RESTClient().Get().Namespace(namespace).Resource("configmaps").
				Param("watch", "true").Param("resourceVersion", revision).Stream(ctx)
			if err != nil {
				return fmt.Errorf("open watch: %w", err)
			}
			reading.Go(func() {
				err := readLines(stream, seen)
				select {
				case seen <- err:
				case <-ctx.Done():
				}
			})
		}
	}
	return nil
}

func readLines(stream io.ReadCloser, seen chan<- error) error {
	defer stream.Close()
	lines := bufio.NewReaderSize(stream, 4<<10)
	for {
		switch _, err := lines.ReadSlice('\n'); {
		case err == nil:
			seen <- nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return fmt.Errorf("%w: %w", errWatchEnded, err)
		}
	}
}
