package main

import "testing"

// What is said about the Pods' size is true.
func TestPodSize(t *testing.T) {
	for _, i := range []int{0, 99_999} {
		if size := newPod(i).Size(); size < 2_800 || size > 3_000 {
			t.Errorf("Pod %d takes %d bytes, want about 2,900", i, size)
		}
	}
}
