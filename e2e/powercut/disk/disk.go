// Package disk is a disk that forgets at a power cut what no flush has covered.
//
// A Disk answers reads with what was written, as a disk's cache does, and keeps
// every write since the last completed flush apart from the medium. A Moment
// says at which command the power goes; from then on no command gets an answer.
// Lose decides, by a source of randomness that its caller seeds, which of the
// writes kept apart had reached the medium: whole, in part, or not at all, in
// whatever order. The invariant: what was written before a flush that has
// returned is on the medium.
//
// The package never drops a write that a flush has covered, since no disk may.
package disk

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
)

// ErrOff is what every command gets after the cut.
var ErrOff = errors.New("the power is off")

// Sector is the smallest unit that is written whole.
const Sector = 512

// Disk is a disk in memory. All methods are safe for concurrent use.
type Disk struct {
	mu      sync.Mutex // guards all below
	medium  []byte     // what a flush has covered
	content []byte     // what a read sees
	pending []write    // the difference, oldest first
	moment  Moment
	marked  func(data []byte) bool
	off     chan struct{} // closed at the cut
	counts  Counts
}

type write struct {
	offset int64
	data   []byte
	forced bool // stays, whatever becomes of the others
}

// Counts are the commands since the disk was made.
type Counts struct{ Writes, Flushes int64 }

// New returns a disk that holds an image; marked tells of the writes that
// AtMarked waits for, nil: there are none.
func New(image []byte, marked func(data []byte) bool) *Disk {
	if marked == nil {
		marked = func([]byte) bool { return false }
	}
	d := &Disk{medium: image, content: make([]byte, len(image)), off: make(chan struct{}), marked: marked}
	copy(d.content, image)
	return d
}

// Size returns the number of bytes of the disk.
func (d *Disk) Size() int64 { return int64(len(d.medium)) }

// ReadAt reads what was written last, flushed or not.
func (d *Disk) ReadAt(p []byte, offset int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.begin(offset, len(p)); err != nil {
		return 0, err
	}
	return copy(p, d.content[offset:]), nil
}

// WriteAt writes to the disk's cache. When the power goes at this write, it may
// be on the medium all the same.
func (d *Disk) WriteAt(p []byte, offset int64) (int, error) { return d.write(p, offset, false) }

// Force is WriteAt, and the write is on the medium when it returns; those
// before it need not be.
func (d *Disk) Force(p []byte, offset int64) (int, error) { return d.write(p, offset, true) }

func (d *Disk) write(p []byte, offset int64, force bool) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.begin(offset, len(p)); err != nil {
		return 0, err
	}
	d.counts.Writes++
	n := copy(d.content[offset:], p)
	off := d.reached(AtWrite)
	if d.moment.Event == AtMarked && d.marked(p) {
		if d.moment.Count--; d.moment.Count <= 0 {
			d.moment = Moment{AtFlush, 1}
		}
	}
	d.pending = append(d.pending, write{offset, bytes.Clone(p), force && !off})
	if off {
		return 0, ErrOff
	}
	return n, nil
}

// Flush brings every write that has returned to the medium.
func (d *Disk) Flush() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.begin(0, 0); err != nil {
		return err
	}
	d.counts.Flushes++
	if d.reached(AtFlush) {
		return ErrOff
	}
	for _, w := range d.pending {
		copy(d.medium[w.offset:], w.data)
	}
	d.pending = nil
	// The answer to this one still goes out.
	d.reached(AfterFlush)
	return nil
}

// begin refuses what comes after the cut, and what is not on the disk.
func (d *Disk) begin(offset int64, n int) error {
	select {
	case <-d.off:
		return ErrOff
	default:
	}
	if offset < 0 || offset+int64(n) > int64(len(d.medium)) {
		return fmt.Errorf("%d bytes at %d are beyond the disk's end, %d", n, offset, len(d.medium))
	}
	return nil
}

// Counts returns how many commands there were.
func (d *Disk) Counts() Counts {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.counts
}

// Image returns a copy of what is on the medium.
func (d *Disk) Image() []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return bytes.Clone(d.medium)
}

// Fill turns the power on with another content.
func (d *Disk) Fill(image []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	copy(d.medium, image)
	copy(d.content, image)
	d.on()
}

// on forgets what was under way.
func (d *Disk) on() {
	d.pending = nil
	d.moment = Moment{}
	d.off = make(chan struct{})
}

// Loss says how much a cut takes.
type Loss struct {
	Keep float64 // the probability that a write had reached the medium
	Unit int     // what is never torn, a multiple of Sector
	// Whole tells of a larger write that is not torn either; nil: of none.
	Whole func(offset int64, data []byte) bool
}

// Lost is what a cut took.
type Lost struct{ Pending, Dropped, Torn int }

// Lose turns the power on again after a cut: the medium gets some of the writes
// that were under way, and the disk holds what is on the medium.
func (d *Disk) Lose(random *rand.Rand, loss Loss) Lost {
	d.mu.Lock()
	defer d.mu.Unlock()
	lost := Lost{Pending: len(d.pending)}
	for _, w := range d.pending {
		switch keep := random.Float64() < loss.Keep; {
		case keep || w.forced:
			copy(d.medium[w.offset:], w.data)
		case len(w.data) > loss.Unit && random.IntN(2) == 0 && (loss.Whole == nil || !loss.Whole(w.offset, w.data)):
			lost.Torn++
			d.tear(random, w, loss.Unit)
		default:
			lost.Dropped++
		}
	}
	for _, w := range d.pending {
		end := w.offset + int64(len(w.data))
		copy(d.content[w.offset:end], d.medium[w.offset:end])
	}
	d.on()
	return lost
}

// tear brings the front of a write to the medium, or some units of it; at least
// one unit gets there and one does not.
func (d *Disk) tear(random *rand.Rand, w write, unit int) {
	units := (len(w.data) + unit - 1) / unit
	there := make([]bool, units)
	if random.IntN(2) == 0 {
		for i := range 1 + random.IntN(units-1) {
			there[i] = true
		}
	} else {
		for i := range there {
			there[i] = random.IntN(2) == 0
		}
		first := random.IntN(units)
		there[first], there[(first+1)%units] = true, false
	}
	for i, is := range there {
		if is {
			from, to := i*unit, min((i+1)*unit, len(w.data))
			copy(d.medium[w.offset+int64(from):], w.data[from:to])
		}
	}
}
