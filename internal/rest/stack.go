package rest

import "runtime"

// changeStack is what decoding, judging and storing an object takes of a stack.
const changeStack = 8 << 10

// growStack makes the goroutine's stack large enough for a change at once. A request's
// goroutine begins with a few kilobytes, which would double on the way, again and
// again, and be copied each time. Reads need less, and watches should stay small.
//
//go:noinline
func growStack() {
	var room [changeStack]byte
	runtime.KeepAlive(&room)
}
