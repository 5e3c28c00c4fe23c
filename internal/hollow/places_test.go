package hollow

import (
	"testing"
	"testing/synctest"
	"time"
)

// One that waits for its name does not keep others from joining.
func TestPlaceIsLentForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &crowd{places: make(chan struct{}, 1)}
		began := time.Now()
		slow, err := c.enter(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		next, err := c.enter(t.Context())
		if err != nil || time.Since(began) != joinTime {
			t.Fatalf("the next enters after %s: %v", time.Since(began), err)
		}
		slow() // gives nothing back any more
		if len(c.places) != 1 {
			t.Error("the place of the next is given away")
		}
		next()
		if len(c.places) != 0 {
			t.Error("the place is not given back")
		}
	})
}
