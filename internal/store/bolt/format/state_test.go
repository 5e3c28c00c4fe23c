package format

import (
	"errors"
	"strings"
	"testing"

	"github.com/skiff-sh/skiff/internal/store"
)

// TestStateFormat: a damaged byte is no format of the future.
func TestStateFormat(t *testing.T) {
	p := State{Revision: 5, Reserved: 6, Buckets: 7, Tx: 8}
	state := p.Encode()
	if got, err := DecodeState(state); err != nil || got != p {
		t.Errorf("got %+v, %v", got, err)
	}
	for format := range 256 {
		state[0] = byte(format)
		if _, err := DecodeState(state); format != Version && !errors.Is(err, store.ErrDamaged) {
			t.Errorf("damaged to %d: %v", format, err)
		}
	}
	for _, future := range [][]byte{append([]byte{2}, state[1:20]...), append([]byte{2}, make([]byte, StateBytes-1)...)} {
		if _, err := DecodeState(future); err == nil || errors.Is(err, store.ErrDamaged) || !strings.Contains(err.Error(), "use the version of skiff") {
			t.Errorf("of the future: %v", err)
		}
	}
}
