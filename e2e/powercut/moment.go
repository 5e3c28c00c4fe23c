package main

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/skiff-sh/skiff/e2e/powercut/disk"
	"github.com/skiff-sh/skiff/e2e/powercut/load"
)

// cutPlan says when the power goes in one boot, and what goes with it. All of it
// comes from the seed.
type cutPlan struct {
	fresh bool // the disk is new: the store is being made
	begin begin
	// One of these three: an event of the disk, the acknowledgement of a commit,
	// a time. Each is counted from begin.
	disk  disk.Moment
	acks  int
	after time.Duration

	loss   disk.Loss
	random *rand.Rand // decides what is lost
}

// begin is from when a moment is counted.
type begin int

const (
	fromStart   begin = iota // the machine mounts, recovers, opens the store
	fromLoad                 // the store is found well, and writers write
	fromCompact              // … and it is being compacted
	atCompacted              // … and it has been compacted: at once
	fromClose                // … and it is closed: at once
)

func (c cutPlan) String() string {
	if c.fresh {
		return "on a new disk " + c.where()
	}
	return c.where()
}

func (c cutPlan) where() string {
	from := [...]string{"the start", "the load", "a compaction", "the end of a compaction", "the end"}[c.begin]
	what := c.disk.String()
	switch {
	case c.begin >= atCompacted:
		what = "at once"
	case c.acks > 0:
		what = fmt.Sprintf("at acknowledgement %d", c.acks)
	case c.after > 0:
		what = "after " + c.after.String()
	}
	return fmt.Sprintf("%s, from %s, %.0f %% survive, units of %d", what, from, 100*c.loss.Keep, c.loss.Unit)
}

// The purposes of randomness in a plan beside the writers'.
const (
	forPlan = 60000 + iota
	forCut
	forLoss
)

// planLoad chooses what a boot writes; compact has every one compact.
func planLoad(seed uint64, boot int, compact bool) load.Plan {
	p := load.Plan{Seed: seed, Boot: boot}
	random := p.Random(forPlan)
	p.Writers = 1 + random.IntN(8)
	p.Window = time.Duration(5+random.IntN(60)) * time.Millisecond
	p.Reserve = []int64{5, 100, 1 << 16}[random.IntN(3)]
	p.Beating = random.IntN(5) == 0
	choice := random.IntN(16)
	if compact {
		choice = 0
	}
	switch choice {
	case 0, 1, 2, 3:
		p.Compact = true
	case 4, 5:
		p.Snapshot = true
	case 6:
		p.Compact, p.Snapshot = true, true
	case 7, 8:
		p.Commits = 1 + random.IntN(20)
	}
	p.MountOptions = mountOptions[random.IntN(len(mountOptions))]
	return p
}

// hasMeta reports whether a write begins with one of bbolt's meta pages, which
// makes a transaction one that has happened: what is under way with it decides.
func hasMeta(data []byte) bool {
	const magic, at = 0xED0CDAED, 16
	return len(data) >= 4096 && binary.LittleEndian.Uint32(data[at:]) == magic
}

// planCut chooses a boot's cut.
func planCut(p load.Plan) cutPlan {
	random := p.Random(forCut)
	c := cutPlan{begin: fromLoad, random: p.Random(forLoss)}
	c.loss.Keep = []float64{0, 0.3, 0.6, 0.9}[random.IntN(4)]
	c.loss.Unit = []int{disk.Sector, 4096}[random.IntN(2)]
	if p.Commits > 0 {
		c.begin = fromClose // at once
		return c
	}
	if p.Compact && random.IntN(4) == 0 {
		c.begin = atCompacted
		return c
	}
	most := 60
	if p.Beating {
		most = 12 // little comes to the disk
	}
	switch choice := random.IntN(20); {
	case choice < 3:
		c.begin = fromStart
		c.fresh = random.IntN(2) == 0
		c.disk = disk.Moment{Event: []disk.Event{disk.AtWrite, disk.AtFlush}[random.IntN(2)], Count: 1 + random.IntN(25)}
	case choice < 6:
		c.disk = disk.Moment{Event: disk.AtMarked, Count: 1 + random.IntN(most/2)}
	case choice < 10:
		c.disk = disk.Moment{Event: disk.AtWrite, Count: 1 + random.IntN(4*most)}
	case choice < 14:
		c.disk = disk.Moment{Event: disk.AtFlush, Count: 1 + random.IntN(most)}
	case choice < 16:
		c.disk = disk.Moment{Event: disk.AfterFlush, Count: 1 + random.IntN(most)}
	case choice < 18:
		c.acks = 1 + random.IntN(200)
	default:
		c.after = time.Duration(random.IntN(1500)) * time.Millisecond
	}
	if p.Compact && c.disk.Event != disk.Never && c.begin == fromLoad && random.IntN(4) > 0 {
		c.begin = fromCompact
		c.disk.Count = 1 + c.disk.Count/4
	}
	return c
}
