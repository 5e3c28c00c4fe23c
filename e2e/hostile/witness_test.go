package hostile

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"k8s.io/client-go/rest"
)

// pace is how often a witness asks.
const pace = 4 * time.Millisecond

// witness is another client: it gets one small object over and over.
type witness struct {
	url    string
	web    *http.Client
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu     sync.Mutex // guards all below
	took   []time.Duration
	failed []error
}

// newWitness begins to ask for a path until end is called.
func newWitness(c *rest.Config, path string) (*witness, error) {
	web, err := rest.HTTPClientFor(c)
	if err != nil {
		return nil, err
	}
	w := &witness{url: c.Host + path, web: web}
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel = cancel
	w.done.Go(func() { w.run(ctx) })
	return w, nil
}

// run asks at a steady pace: what takes too long delays the next, and each that
// was due meanwhile waits as long as its client would have.
func (w *witness) run(ctx context.Context) {
	due := time.NewTicker(pace)
	defer due.Stop()
	for ctx.Err() == nil {
		begin := time.Now()
		err := w.ask(ctx)
		took := time.Since(begin)
		if ctx.Err() != nil {
			return
		}
		w.mu.Lock()
		if err != nil && len(w.failed) < 10 {
			w.failed = append(w.failed, err)
		}
		for ; took > 0; took -= pace {
			w.took = append(w.took, took)
		}
		w.mu.Unlock()
		select {
		case <-due.C:
		case <-ctx.Done():
		}
	}
}

func (w *witness) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url, nil)
	if err != nil {
		return err
	}
	answer, err := w.web.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s", answer.Status)
	}
	return nil
}

// testimony is what a witness saw.
type testimony struct {
	Requests  int     `json:"requests"`
	P50       float64 `json:"p50_ms"`
	P99       float64 `json:"p99_ms"`
	Max       float64 `json:"max_ms"`
	MemoryMiB float64 `json:"memory_mib"`
	failed    []error
}

// end ends the asking.
func (w *witness) end() testimony {
	w.cancel()
	w.done.Wait()
	w.web.CloseIdleConnections()
	slices.Sort(w.took)
	n := len(w.took)
	if n == 0 {
		return testimony{failed: append(w.failed, fmt.Errorf("nothing was answered"))}
	}
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	return testimony{Requests: n, P50: ms(w.took[n/2]), P99: ms(w.took[n*99/100]), Max: ms(w.took[n-1]), failed: w.failed}
}
