package disk

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"
)

const size = 64 << 10

func fill(t *testing.T, d *Disk, value byte, offset, n int) {
	t.Helper()
	if _, err := d.WriteAt(bytes.Repeat([]byte{value}, n), int64(offset)); err != nil {
		t.Fatal(err)
	}
}

func content(t *testing.T, d *Disk) []byte {
	t.Helper()
	all := make([]byte, size)
	if _, err := d.ReadAt(all, 0); err != nil {
		t.Fatal(err)
	}
	return all
}

// TestFlushed: whatever is lost, what a flush has covered stays, and reads see
// the cache before the cut and the medium after it.
func TestFlushed(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	for range 50 {
		d := New(make([]byte, size), nil)
		fill(t, d, 1, 0, size)
		if err := d.Flush(); err != nil {
			t.Fatal(err)
		}
		fill(t, d, 2, 4096, 4096)
		if got := content(t, d); got[4096] != 2 || got[0] != 1 {
			t.Fatal("a read does not see the last write")
		}
		d.Cut()
		if lost := d.Lose(random, Loss{Keep: 0, Unit: 4096}); lost != (Lost{Pending: 1, Dropped: 1}) {
			t.Fatalf("lost %+v", lost)
		}
		if got := content(t, d); !bytes.Equal(got, bytes.Repeat([]byte{1}, size)) {
			t.Fatal("a flushed write is gone, or one that was not flushed is there")
		}
	}
}

// TestLose: of many writes some are kept, some dropped and some torn, a later
// one can survive an earlier one, and the same seed loses the same.
func TestLose(t *testing.T) {
	lose := func(seed uint64) ([]byte, Lost) {
		d := New(make([]byte, size), nil)
		for i := range 8 {
			fill(t, d, byte(i+1), i*8192, 8192)
		}
		d.Cut()
		lost := d.Lose(rand.New(rand.NewPCG(seed, 0)), Loss{Keep: 0.5, Unit: Sector})
		return content(t, d), lost
	}
	var sum Lost
	outOfOrder := false
	for seed := range uint64(40) {
		got, lost := lose(seed)
		if again, _ := lose(seed); !bytes.Equal(got, again) {
			t.Fatalf("seed %d lost something else the second time", seed)
		}
		sum.Dropped, sum.Torn = sum.Dropped+lost.Dropped, sum.Torn+lost.Torn
		dropped, torn := 0, 0
		for i := range 8 {
			part := got[i*8192 : (i+1)*8192]
			for at := 0; at < len(part); at += Sector {
				if !bytes.Equal(part[at:at+Sector], bytes.Repeat(part[at:at+1], Sector)) {
					t.Fatalf("seed %d tore a sector", seed)
				}
			}
			switch n := bytes.Count(part, []byte{byte(i + 1)}); n {
			case 0:
				dropped++
			case 8192:
				outOfOrder = outOfOrder || dropped > 0
			default:
				torn++
			}
		}
		if dropped != lost.Dropped || torn != lost.Torn {
			t.Errorf("seed %d: reported %+v, found %d dropped and %d torn", seed, lost, dropped, torn)
		}
	}
	if sum.Dropped == 0 || sum.Torn == 0 || !outOfOrder {
		t.Errorf("lost %+v, out of order: %t; want some of each", sum, outOfOrder)
	}
}

// TestWhole: what is to be whole is kept or dropped.
func TestWhole(t *testing.T) {
	for seed := range uint64(40) {
		d := New(make([]byte, size), nil)
		fill(t, d, 1, 0, 4096)
		fill(t, d, 2, 8192, 4096)
		d.Cut()
		d.Lose(rand.New(rand.NewPCG(seed, 0)), Loss{Keep: 0.3, Unit: Sector, Whole: func(offset int64, data []byte) bool {
			return offset == 8192 && data[0] == 2
		}})
		if n := bytes.Count(content(t, d), []byte{2}); n != 0 && n != 4096 {
			t.Fatalf("seed %d tore it: %d bytes are there", seed, n)
		}
	}
}

// TestMoments: the power goes at the counted command, and what each of them
// leaves undecided or safe.
func TestMoments(t *testing.T) {
	for _, c := range []struct {
		moment         Moment
		writes         int  // answered
		flushed, later byte // what is left of the first and the second write when all that can be lost is
	}{
		{Moment{AtWrite, 1}, 0, 0, 0},
		{Moment{AtWrite, 2}, 1, 1, 0},
		{Moment{AtFlush, 1}, 1, 0, 0},
		{Moment{AfterFlush, 1}, 1, 1, 0},
		{Moment{AtFlush, 2}, 2, 1, 0},
		{Moment{AfterFlush, 2}, 2, 1, 2},
		{Moment{AtMarked, 1}, 2, 1, 0},
	} {
		d := New(make([]byte, size), func(data []byte) bool { return data[0] == 2 })
		d.Arm(c.moment)
		answered := 0
		for i := range 3 {
			_, err := d.WriteAt([]byte{byte(i + 1)}, int64(i)*Sector)
			if err == nil {
				answered++
				err = d.Flush()
			}
			if err != nil && !errors.Is(err, ErrOff) {
				t.Fatal(err)
			}
		}
		select {
		case <-d.Off():
		default:
			t.Fatalf("%s: the power is still on", c.moment)
		}
		if _, err := d.ReadAt(make([]byte, 1), 0); !errors.Is(err, ErrOff) {
			t.Errorf("%s: a read after the cut: %v", c.moment, err)
		}
		d.Lose(rand.New(rand.NewPCG(1, 1)), Loss{Unit: Sector})
		if got := content(t, d); answered != c.writes || got[0] != c.flushed || got[Sector] != c.later {
			t.Errorf("%s: %d writes answered, left are %d and %d", c.moment, answered, got[0], got[Sector])
		}
	}
}

// TestForce: a forced write stays, the one before it need not, not even if it
// went to the same place.
func TestForce(t *testing.T) {
	for seed := range uint64(20) {
		d := New(make([]byte, size), nil)
		fill(t, d, 1, 0, 2*Sector)
		if _, err := d.Force(bytes.Repeat([]byte{2}, Sector), Sector); err != nil {
			t.Fatal(err)
		}
		d.Cut()
		keep := float64(seed % 2)
		d.Lose(rand.New(rand.NewPCG(seed, 1)), Loss{Keep: keep, Unit: 2 * Sector})
		if got := content(t, d); got[0] != byte(keep) || got[Sector] != 2 {
			t.Errorf("left are %d and %d, want %v and 2", got[0], got[Sector], keep)
		}
	}
}

// TestBeyond: what is not on the disk is refused.
func TestBeyond(t *testing.T) {
	d := New(make([]byte, size), nil)
	if _, err := d.WriteAt(make([]byte, 2), size-1); err == nil {
		t.Error("a write beyond the end was taken")
	}
	if _, err := d.ReadAt(make([]byte, 1), -1); err == nil {
		t.Error("a read before the beginning was answered")
	}
}
