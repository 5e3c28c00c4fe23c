package containerd

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &Runtime{turns: make(chan struct{}, 1)}
		first, err := r.turn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var order []int
		for i := range 3 {
			go func() {
				end, err := r.turn(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				order = append(order, i)
				end()
			}()
			synctest.Wait()
		}
		if len(order) != 0 {
			t.Errorf("%v began beside the first", order)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := r.turn(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("who gave up: %v", err)
		}
		first()
		first()
		synctest.Wait()
		if len(order) != 3 || order[0] != 0 || order[1] != 1 || order[2] != 2 {
			t.Errorf("they began in the order %v", order)
		}

		t.Log("one that hangs stops nobody for good")
		hangs, err := r.turn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		next, err := r.turn(t.Context())
		if took := time.Since(began); err != nil || took != turnPatience {
			t.Errorf("the next began after %v, %v", took, err)
		}
		hangs()
		next()
	})
}
