package kind

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Timestamp returns a time as fields of objects have it. On the wire and on disk
// a metav1.Time has whole seconds; one with more would look changed to whoever
// compares the object in memory with what a client sends back.
func Timestamp(t time.Time) metav1.Time { return metav1.NewTime(t.Truncate(time.Second)) }

// Now is the time that goes into an object now.
func Now() metav1.Time { return Timestamp(time.Now()) }
