package rest

import (
	"bytes"
	"encoding/binary"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
)

// Events are framed as upstream's generated code does it, whatever their length.
func TestProtobufFrames(t *testing.T) {
	s := watchStream{form: form{media: mediaProtobuf}}
	for _, length := range []int{0, 1, 117, 118, 126, 127, 128, 16 << 10, 1<<21 + 5} {
		object := bytes.Repeat([]byte{'x'}, length)
		event := metav1.WatchEvent{Type: string(watch.Modified), Object: runtime.RawExtension{Raw: object}}
		want, err := event.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		b := bytes.NewBufferString("before")
		s.frame(b, watch.Modified, object)
		got := b.Bytes()[len("before"):]
		if n := binary.BigEndian.Uint32(got); int(n) != len(want) || !bytes.Equal(got[4:], want) {
			t.Errorf("an object of %d bytes: %d bytes in a frame of %d, want %d", length, len(got)-4, n, len(want))
		}
	}
	b := bytes.NewBuffer(make([]byte, 0, 1<<20))
	object := make([]byte, 1<<10)
	if n := testing.AllocsPerRun(100, func() { b.Reset(); s.frame(b, watch.Added, object) }); n > 0 {
		t.Errorf("%v allocations for a frame", n)
	}
}
