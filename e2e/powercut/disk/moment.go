package disk

import "fmt"

// Event is where in a command's life the power goes.
type Event int

// The events that are counted.
const (
	Never      Event = iota
	AtWrite          // a write has come, its answer does not go out
	AtFlush          // a flush has come and is not done
	AfterFlush       // a flush is done and answered; nothing after it is
	AtMarked         // a marked write has come, and then a flush, which is not done
)

func (e Event) String() string {
	return [...]string{"never", "at a write", "at a flush", "after a flush", "at the flush after a marked write"}[e]
}

// Moment is the Count-th event of a kind.
type Moment struct {
	Event Event
	Count int
}

func (m Moment) String() string { return fmt.Sprintf("%s (number %d)", m.Event, m.Count) }

// Arm has the power go at a moment, counted from now on.
func (d *Disk) Arm(m Moment) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.moment = m
}

// Cut turns the power off now. The writes that were under way stay undecided
// until Lose.
func (d *Disk) Cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cut()
}

func (d *Disk) cut() {
	select {
	case <-d.off:
	default:
		close(d.off)
	}
}

// Off is closed at the cut.
func (d *Disk) Off() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.off
}

// reached counts an event and cuts at the armed one.
func (d *Disk) reached(event Event) bool {
	if d.moment.Event != event {
		return false
	}
	d.moment.Count--
	if d.moment.Count > 0 {
		return false
	}
	d.moment = Moment{}
	d.cut()
	return true
}
