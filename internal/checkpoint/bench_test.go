package checkpoint

import (
	"fmt"
	"path/filepath"
	"testing"

	"go.uber.org/zap"
)

// What a checkpoint adds to a node's start, by the objects it has.
func BenchmarkOpen(b *testing.B) {
	for _, objects := range []int{50, 2000, 20000} {
		b.Run(fmt.Sprint(objects), func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "journal")
			w := recorder{}
			w.text(fieldCluster, "here")
			w.collection(podsQuestion, &collection{apiVersion: "v1", kind: "Pod", revision: "1"})
			for i := range objects {
				w.object(fmt.Sprintf("default/pod-%d", i), &object{}, make([]byte, 800))
			}
			j, _, err := createJournal(path, w.body)
			if err != nil {
				b.Fatal(err)
			}
			if err := j.close(); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(j.size)
			b.ReportAllocs()
			for b.Loop() {
				c := Open(Config{Path: path, Cluster: "here", Log: zap.NewNop()})
				if len(c.known[podsQuestion].objects) != objects {
					b.Fatal("not all is remembered")
				}
				if err := c.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
