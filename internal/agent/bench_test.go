package agent

import (
	"testing"
	"testing/synctest"
)

// onBench runs a test in a bubble, on a node that runs until its end.
func onBench(t *testing.T, test func(*testing.T, *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.start()
		defer func() { b.stop() }() // of the last one that was started
		test(t, b)
	})
}
