package main

import (
	"fmt"
	"math/rand/v2"
)

// objectBytes is about what a small Kubernetes object takes in protobuf.
const objectBytes = 1200

// values are what writers write: random, so that nothing could shrink them, and
// made once, so that making them is not what is measured. Nobody changes them.
type values [][]byte

func newValues() values {
	source := rand.NewChaCha8([32]byte{1})
	v := make(values, 64)
	for i := range v {
		v[i] = make([]byte, objectBytes)
		_, _ = source.Read(v[i]) // never fails
	}
	return v
}

func (v values) at(n int) []byte { return v[n%len(v)] }

// objectName is the name of the i-th object, in one of fifty namespaces.
func objectName(i int) string { return fmt.Sprintf("namespace-%02d/object-%06d", i%50, i) }
