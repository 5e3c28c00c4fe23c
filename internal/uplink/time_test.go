package uplink

import (
	"testing"
	"testing/synctest"
	"time"
)

// told has a node ask servers whose clock is ahead of the bubble's.
type told struct {
	*Time
	servers, ours time.Duration // ahead of the bubble's clock
}

func newTold() *told {
	o := &told{}
	o.Time = NewTime(func() time.Time { return time.Now().Add(o.ours) })
	return o
}

// ask is answered after a while, and the answer is under way for another.
func (o *told) ask(before, after time.Duration) {
	sent := time.Now()
	time.Sleep(before)
	date := time.Now().Add(o.servers).Truncate(time.Second)
	time.Sleep(after)
	o.Hear(date, sent, time.Now())
}

func TestAhead(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for name, c := range map[string]struct{ servers, ours time.Duration }{
		"the same":          {0, 0},
		"two years behind":  {2 * year, 0},
		"two years ahead":   {-2 * year, 0},
		"both are wrong":    {year, 3 * year},
		"a few seconds off": {0, 7 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newTold()
				if _, ok := o.Ahead(); ok {
					t.Error("known before anyone was asked")
				}
				o.servers, o.ours = c.servers, c.ours
				for range 100 {
					o.ask(300*time.Millisecond, 50*time.Millisecond)
					got, ok := o.Ahead()
					if wrong := got - (c.ours - c.servers); !ok || wrong.Abs() > 900*time.Millisecond {
						t.Fatalf("%s ahead, want %s", got, c.ours-c.servers)
					}
					time.Sleep(10*time.Second + 37*time.Millisecond)
				}
				if wrong := o.Theirs(time.Now().Add(c.ours)).Sub(time.Now().Add(c.servers)); wrong.Abs() > 8*time.Second {
					t.Errorf("theirs is wrong by %s", wrong)
				}
				if now := time.Now(); !o.Ours(o.Theirs(now)).Equal(now) || !o.Theirs(time.Time{}).IsZero() {
					t.Error("there and back is not the same")
				}
			})
		})
	}
}

// An answer that takes long says little, and does not undo what is known.
func TestSlowAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newTold()
		o.ask(0, time.Minute)
		if _, ok := o.Ahead(); ok {
			t.Error("an answer that took a minute was believed")
		}
		o.ask(0, 0)
		for range 3 {
			o.ask(0, time.Minute)
			o.ask(time.Minute, 0)
		}
		if got, _ := o.Ahead(); got.Abs() > time.Second {
			t.Errorf("%s ahead", got)
		}
	})
}

func TestServersClockIsSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newTold()
		set := o.Set()
		o.ask(0, 0)
		o.ours = 24 * time.Hour // this machine's: none of their business
		o.ask(0, 0)
		o.servers = 10 * time.Second // that is no setting
		o.ask(0, 0)
		select {
		case <-set:
			t.Error("told that it was set")
		default:
		}
		o.servers = time.Hour
		o.ask(0, 0)
		select {
		case <-set:
		default:
			t.Error("not told")
		}
		if got, _ := o.Ahead(); (got - 23*time.Hour).Abs() > time.Second {
			t.Errorf("%s ahead", got)
		}
	})
}

func TestNoTime(t *testing.T) {
	var none *Time
	now := time.Now()
	if _, ok := none.Ahead(); ok || none.Set() != nil || !none.Theirs(now).Equal(now) || !none.Ours(now).Equal(now) {
		t.Error("knows something")
	}
}
