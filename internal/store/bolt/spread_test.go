package bolt

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// TestSpread: all of it is in the file, whatever the pieces.
func TestSpread(t *testing.T) {
	path := filepath.Join(t.TempDir(), "large")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var want []byte
	w := Spread(f)
	for _, size := range []int{1, spreadBytes - 1, 3 * spreadBytes, 5, 100_000, spreadBytes} {
		piece := bytes.Repeat([]byte{byte(rand.Uint32())}, size)
		want = append(want, piece...)
		if n, err := w.Write(piece); n != size || err != nil {
			t.Fatal(n, err)
		}
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, want %d: %v", len(got), len(want), err)
	}
}
