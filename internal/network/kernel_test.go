package network

import (
	"errors"
	"fmt"
	"testing"

	"github.com/vishvananda/netlink"
)

func TestDump(t *testing.T) {
	other := errors.New("other")
	for _, test := range []struct {
		name    string
		answers []error
		want    error
		asked   int
	}{
		{"whole", []error{nil}, nil, 1},
		{"interrupted", []error{netlink.ErrDumpInterrupted, fmt.Errorf("list: %w", netlink.ErrDumpInterrupted), nil}, nil, 3},
		{"failed", []error{netlink.ErrDumpInterrupted, other, nil}, other, 2},
	} {
		asked := 0
		got, err := dump(func() ([]int, error) {
			asked++
			return []int{asked}, test.answers[asked-1]
		})
		if !errors.Is(err, test.want) || asked != test.asked || len(got) != 1 || got[0] != test.asked {
			t.Errorf("%s: %v, %v after %d", test.name, got, err, asked)
		}
	}
	if _, err := dump(func() ([]int, error) { return nil, netlink.ErrDumpInterrupted }); !errors.Is(err, netlink.ErrDumpInterrupted) {
		t.Errorf("interrupted for ever: %v", err)
	}
}
