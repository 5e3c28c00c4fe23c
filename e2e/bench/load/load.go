// Package load is what the measuring programs do to an API server: Run has a
// number of clients do something again and again for a while, and Verbs are what
// they do to ConfigMaps of 1 KB.
//
// The package measures how long each operation took and prints nothing. Where
// clients count, each has a connection of its own, as machines and programs have.
package load

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// Own returns a configuration whose clients share a connection with none of another
// configuration. They speak JSON, as most programs do: client-go's own types would
// take protobuf.
func Own(config *rest.Config) *rest.Config {
	own := rest.CopyConfig(config)
	own.QPS = -1
	own.ContentType = runtime.ContentTypeJSON
	// client-go keeps one transport for all that differ in nothing that it can
	// compare; functions it cannot.
	own.Proxy = func(*http.Request) (*url.URL, error) { return nil, nil }
	return own
}

// Clients returns so many clients, connected.
func Clients(ctx context.Context, config *rest.Config, n int) ([]*kubernetes.Clientset, error) {
	clients := make([]*kubernetes.Clientset, n)
	for i := range clients {
		client, err := kubernetes.NewForConfig(Own(config))
		if err != nil {
			return nil, err
		}
		if _, err := client.CoreV1().Namespaces().Get(ctx, metav1.NamespaceDefault, metav1.GetOptions{}); err != nil {
			return nil, err
		}
		clients[i] = client
	}
	return clients, nil
}

// ErrDone ends a client's part of a Run before the time is over.
var ErrDone = errors.New("nothing left to do")

// Outcome is what a Run measured.
type Outcome struct {
	Took    []time.Duration // of each operation
	Done    []int           // operations of each client
	Elapsed time.Duration
}

// PerSecond is the rate of operations of all clients.
func (o Outcome) PerSecond() float64 { return float64(len(o.Took)) / o.Elapsed.Seconds() }

// Run has each client do its n-th operation (0, 1, 2 …) until the spell is over. The
// first error but ErrDone ends it.
func Run(ctx context.Context, clients int, spell time.Duration, do func(ctx context.Context, client, n int) error) (Outcome, error) {
	var mu sync.Mutex
	o := Outcome{Done: make([]int, clients)}
	began := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	for i := range clients {
		group.Go(func() error {
			var took []time.Duration
			var err error
			for n := 0; time.Since(began) < spell; n++ {
				t := time.Now()
				if err = do(ctx, i, n); err != nil {
					break
				}
				took = append(took, time.Since(t))
			}
			if errors.Is(err, ErrDone) {
				err = nil
			}
			mu.Lock()
			defer mu.Unlock()
			o.Took, o.Done[i] = slices.Concat(o.Took, took), len(took)
			return err
		})
	}
	err := group.Wait()
	o.Elapsed = time.Since(began)
	return o, err
}
