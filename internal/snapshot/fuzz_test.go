package snapshot

import (
	"bytes"
	"testing"
	"time"
)

// Whatever the bytes are, reading them ends with an answer.
func FuzzInspect(f *testing.F) {
	for _, compress := range []bool{false, true} {
		var out bytes.Buffer
		a, err := newArchiver(&out, compress, "", time.Unix(1764000000, 0))
		if err != nil {
			f.Fatal(err)
		}
		err = a.manifest(Manifest{Format: layout})
		if err == nil {
			err = a.entry(storeEntry, 5, bytes.NewReader([]byte("store")))
		}
		if err == nil {
			err = a.close()
		}
		if err != nil {
			f.Fatal(err)
		}
		f.Add(out.Bytes())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Inspect(t.Context(), bytes.NewReader(data), "")
		if err == nil && (m.Format != layout || m.Bytes == 0) {
			t.Errorf("accepted as %+v", m)
		}
	})
}
