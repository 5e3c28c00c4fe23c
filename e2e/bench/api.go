package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/skiff-sh/skiff/e2e/figures"
)

// spell is how long one operation is measured with one number of clients.
const spell = 2 * time.Second

// verb is an operation on the i-th ConfigMap of a client.
type verb struct {
	name string
	// bounded verbs work on each ConfigMap once: create and delete.
	bounded bool
	do      func(ctx context.Context, c typedcorev1.ConfigMapInterface, name string) error
}

var payload = strings.Repeat("x", 1024)

func configMap(name, tag string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{"payload": payload, "tag": tag}}
}

var verbs = []verb{
	{"create", true, func(ctx context.Context, c typedcorev1.ConfigMapInterface, name string) error {
		_, err := c.Create(ctx, configMap(name, ""), metav1.CreateOptions{})
		return err
	}},
	{"get", false, func(ctx context.Context, c typedcorev1.ConfigMapInterface, name string) error {
		_, err := c.Get(ctx, name, metav1.GetOptions{})
		return err
	}},
	{"update", false, func(ctx context.Context, c typedcorev1.ConfigMapInterface, name string) error {
		_, err := c.Update(ctx, configMap(name, time.Now().String()), metav1.UpdateOptions{})
		return err
	}},
	{"patch", false, func(ctx context.Context, c typedcorev1.ConfigMapInterface, name string) error {
		patch := fmt.Appendf(nil, `{"data":{"tag":%q}}`, time.Now().String())
		_, err := c.Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{})
		return err
	}},
	{"delete", true, func(ctx context.Context, c typedcorev1.ConfigMapInterface, name string) error {
		return c.Delete(ctx, name, metav1.DeleteOptions{})
	}},
}

// api measures ConfigMaps of 1 KB with 1, 8 and 24 clients.
func (b *bench) api(ctx context.Context) error {
	return b.withServer(ctx, func(s *server) error {
		for _, clients := range []int{1, 8, 24} {
			if err := b.apiWith(ctx, s, clients); err != nil {
				return err
			}
		}
		return nil
	})
}

func (b *bench) apiWith(ctx context.Context, s *server, clients int) error {
	sets := make([]typedcorev1.ConfigMapInterface, clients)
	for i := range sets {
		config := *s.config
		config.UserAgent = fmt.Sprintf("bench-%d", i) // connections of its own
		client, err := kubernetes.NewForConfig(&config)
		if err != nil {
			return err
		}
		sets[i] = client.CoreV1().ConfigMaps(namespace)
		if _, err := sets[i].Get(ctx, "kube-root-ca.crt", metav1.GetOptions{}); err != nil {
			return err
		}
	}
	created := make([]int, clients)
	for _, v := range verbs {
		took, elapsed, err := measure(ctx, v, sets, created)
		if err != nil {
			return fmt.Errorf("%s with %d clients: %w", v.name, clients, err)
		}
		key := fmt.Sprintf("configmap_%s_%d_", v.name, clients)
		b.set(key+"p50_ms", milliseconds(figures.Percentile(took, 0.5)))
		b.set(key+"p99_ms", milliseconds(figures.Percentile(took, 0.99)))
		b.set(key+"ops", float64(len(took))/elapsed.Seconds())
	}
	return nil
}

// measure runs one verb for a spell on all clients. created has how many
// ConfigMaps each client made; what was created is what the others work on.
func measure(ctx context.Context, v verb, sets []typedcorev1.ConfigMapInterface, created []int) ([]time.Duration, time.Duration, error) {
	var mu sync.Mutex
	var all []time.Duration
	began := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	for i, c := range sets {
		group.Go(func() error {
			var took []time.Duration
			n := 0
			for ; time.Since(began) < spell && (v.name != "delete" || n < created[i]); n++ {
				at := n
				if !v.bounded {
					at = n % max(1, created[i])
				}
				t := time.Now()
				if err := v.do(ctx, c, fmt.Sprintf("bench-%d-%d-%d", len(sets), i, at)); err != nil {
					return err
				}
				took = append(took, time.Since(t))
			}
			if v.name == "create" {
				created[i] = n
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, took...)
			return nil
		})
	}
	err := group.Wait()
	return all, time.Since(began), err
}
