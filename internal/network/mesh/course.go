package mesh

import "time"

// Path is a way to another node. The better ones are higher.
type Path int

// The paths. Relay is by way of the servers; it is taken unproven, when nothing
// better is proven.
const (
	None Path = iota
	Relay
	VXLAN
	Direct
)

// String is the path as logs have it.
func (p Path) String() string {
	return [...]string{"none", "relay", "vxlan", "direct"}[p]
}

// pace is how often and how long is probed.
type pace struct {
	again   time.Duration // between the probes of one test or check
	tests   int           // probes of a path before it counts as not there
	checks  int           // probes of the path in use before it counts as gone
	idle    time.Duration // between checks of the path in use
	sized   int           // every how many checks full size is asked for, too
	pause   time.Duration // before better paths are tested again, at first
	longest time.Duration // the same, at last
	steady  time.Duration // a path that was in use for less is not tested again at once
	greet   time.Duration // between tests that a peer's tests cause
	linger  time.Duration // how long the relay is taken for open after it closed
	settle  time.Duration // between a change of the machine's links and a look at it
}

// usualPace finds a path within a round trip, loses a dead one within 36 s, and
// costs one small packet per peer and half minute.
func usualPace() pace {
	return pace{
		again: time.Second, tests: 3, checks: 5, idle: 30 * time.Second, sized: 10,
		pause: 5 * time.Second, longest: 5 * time.Minute, steady: 2 * time.Minute,
		greet: 5 * time.Second, linger: 10 * time.Second, settle: 300 * time.Millisecond,
	}
}

// ways says which paths there might be to a peer.
type ways struct{ relay, vxlan, direct bool }

func (w ways) has(p Path) bool {
	switch p {
	case Relay:
		return w.relay
	case VXLAN:
		return w.vxlan
	case Direct:
		return w.direct
	}
	return false
}

// unproven is the path that is taken when none is proven.
func (w ways) unproven() Path {
	if w.relay {
		return Relay
	}
	return None
}

// between returns the best path below one and above another that takes proof;
// None if none is.
func (w ways) between(below, above Path) Path {
	for p := below - 1; p > above && p > Relay; p-- {
		if w.has(p) {
			return p
		}
	}
	return None
}

const beyond = Direct + 1

// course is the decision which path leads to one peer. It does no I/O and knows
// no time but what it is told: advance, answered, greeted and renew say what
// happened, and path, mtu and test say what the routes shall be.
//
// At rest it waits for the next check of the path in use or for the next test of
// better ones. A test goes through the better paths from the best on; an answer
// of full size settles it.
type course struct {
	pace  pace
	ways  ways
	full  int       // the size of packets that paths shall carry
	path  Path      // in use
	mtu   int       // of it
	since time.Time // when it was taken

	test     Path // under test, None for none
	checking bool // the path in use is
	asks     bool // the peer shall test its paths as well
	round    uint64
	tries    int // probes sent in the round
	best     int // largest size answered in the round
	sized    int // checks since full size was asked for

	next   time.Time // of the next probe of a test or check
	check  time.Time // of the next check
	retry  time.Time // of the next test; zero for none
	pause  time.Duration
	tested time.Time // when the last test began
}

// probe is what shall be asked of the peer: once for each size, on the path
// under test or, without one, the path in use.
type probe struct {
	round uint64
	sizes []int
	asks  bool
}

// after returns what to test after a path: the next best above the one in use,
// at last that itself if larger packets may pass by it. None: nothing.
func (c *course) after(p Path) Path {
	if better := c.ways.between(p, c.path); better != None {
		return better
	}
	if p > c.path && c.path > Relay && c.mtu < c.full {
		return c.path
	}
	return None
}

// newCourse starts with what the kernel's routes say already; Relay and None
// stand for nothing. full is the size of packets that paths shall carry.
func newCourse(found Path, mtu int, w ways, full int, p pace, now time.Time) *course {
	c := &course{pace: p, ways: w, full: full, path: found, mtu: min(mtu, full), since: now, pause: p.pause}
	c.renew(w, full, false, now)
	return c
}

// renew tells which paths there might be from now on. If the peer has moved, or
// the path in use cannot be any more, it counts no longer; tests begin at once.
func (c *course) renew(w ways, full int, moved bool, now time.Time) {
	c.ways, c.pause = w, c.pace.pause
	if full != c.full && c.path <= Relay {
		c.mtu = full
	}
	c.full, c.mtu = full, min(c.mtu, full)
	if c.path <= Relay || moved || !w.has(c.path) {
		c.use(w.unproven(), full, now)
	}
	c.check = now
	c.begin(c.after(beyond), true, now)
}

// setRelay tells that the relay opened or closed.
func (c *course) setRelay(open bool, now time.Time) {
	if c.ways.relay == open {
		return
	}
	c.ways.relay = open
	if c.path <= Relay {
		c.use(c.ways.unproven(), c.full, now)
	}
	// The machine may have got another network: what did not work may now.
	if open && c.resting() && c.after(beyond) != None {
		c.pause = c.pace.pause
		c.begin(c.after(beyond), true, now)
	}
}

func (c *course) use(p Path, mtu int, now time.Time) {
	if p != c.path {
		c.since = now
	}
	c.path, c.mtu = p, mtu
}

func (c *course) resting() bool { return c.test == None && !c.checking }

// begin starts the test of a path; of None it comes to rest.
func (c *course) begin(p Path, asks bool, now time.Time) {
	c.test, c.checking, c.asks = p, false, asks
	c.round++
	c.tries, c.best, c.next = 0, 0, now
	if p != None {
		c.tested, c.retry = now, time.Time{}
	}
}

// due says when advance has something to do; zero for never.
func (c *course) due() time.Time {
	if !c.resting() {
		return c.next
	}
	at := c.retry
	if c.path > Relay && (at.IsZero() || c.check.Before(at)) {
		at = c.check
	}
	return at
}

// hasten lets a check begin now that is due before then: checks of several peers
// go together, and the machine wakes up once for all.
func (c *course) hasten(then, now time.Time) {
	if c.resting() && c.check.Before(then) {
		c.check = now
	}
}

// advance does what is due and returns what to ask of the peer, if anything.
func (c *course) advance(now time.Time) *probe {
	for at := c.due(); !at.IsZero() && !now.Before(at); at = c.due() {
		switch {
		case c.test != None && c.tries < c.pace.tests:
			return c.ask(sizes(c.full), now)
		case c.test != None:
			c.endTest(now)
		case c.checking && c.tries < c.pace.checks:
			return c.ask(c.checkSizes(), now)
		case c.checking:
			c.endCheck(now)
		case !c.retry.IsZero() && !now.Before(c.retry):
			c.retry = time.Time{}
			c.begin(c.after(beyond), true, now)
		default:
			c.begin(None, false, now)
			c.checking = true
		}
	}
	return nil
}

func (c *course) ask(sizes []int, now time.Time) *probe {
	c.tries++
	c.next = now.Add(c.pace.again)
	return &probe{round: c.round, sizes: sizes, asks: c.asks}
}

// checkSizes is small, and sometimes also as large as is said to pass: a path
// may come to carry less.
func (c *course) checkSizes() []int {
	if c.sized+1 < c.pace.sized {
		return []int{leastSize}
	}
	return []int{leastSize, c.mtu}
}

// answered tells that the peer answered a probe.
func (c *course) answered(round uint64, size int, now time.Time) {
	if round != c.round || c.resting() || c.tries == 0 {
		return
	}
	c.best = max(c.best, size)
	switch {
	case c.test != None && c.best >= c.full:
		c.endTest(now)
	case c.checking && c.best >= c.checkSizes()[len(c.checkSizes())-1]:
		c.endCheck(now)
	}
}

// endTest takes the path if it answered, else goes on with the next best.
func (c *course) endTest(now time.Time) {
	tested, size := c.test, c.best
	if p := c.after(tested); size == 0 && p != None {
		c.begin(p, c.asks, now)
		return
	}
	c.begin(None, false, now)
	switch {
	case size > leastSize:
		c.use(tested, size, now)
		c.check = now.Add(c.pace.idle)
	case tested == c.path: // it carries nothing any more
		c.lose(now)
		return
	}
	if c.retry = (time.Time{}); c.after(beyond) != None {
		c.wait(now)
	}
}

// endCheck goes on with the path in use or leaves it.
func (c *course) endCheck(now time.Time) {
	wanted := c.checkSizes()
	size := c.best
	c.begin(None, false, now)
	switch {
	case size == 0:
		c.lose(now)
	case size < wanted[len(wanted)-1]: // find out what still passes
		c.sized = 0
		c.begin(c.path, false, now)
	default:
		c.sized = (c.sized + 1) % c.pace.sized
		c.check = now.Add(c.pace.idle)
		if now.Sub(c.since) > c.pace.steady && c.after(beyond) == None {
			c.pause = c.pace.pause
		}
	}
}

// lose leaves the path in use. One that did not hold for long is not tested
// again before a pause, or it would come and go.
func (c *course) lose(now time.Time) {
	held := now.Sub(c.since)
	c.use(c.ways.unproven(), c.full, now)
	if held < c.pace.steady {
		c.wait(now)
		return
	}
	c.pause = c.pace.pause
	if p := c.after(beyond); p != None {
		c.begin(p, true, now)
	}
}

// wait puts the next test off, each time for longer.
func (c *course) wait(now time.Time) {
	c.retry = now.Add(c.pause)
	c.pause = min(2*c.pause, c.pace.longest)
}

// greeted tells that the peer tests its paths to us: it may just have started,
// or something between us has changed.
func (c *course) greeted(now time.Time) {
	if !c.resting() || now.Sub(c.tested) < c.pace.greet {
		return
	}
	if p := c.after(beyond); p != None {
		// Without asking back, or two would keep each other testing.
		c.begin(p, false, now)
	}
}

// leastSize is the size of a packet that only asks whether someone is there.
const leastSize = 64

// sizes are what is asked for in a test, the largest first: full size, and what
// common networks leave of it, in case that does not pass.
func sizes(full int) []int {
	out := []int{full}
	for _, s := range [...]int{8950, 1450, 1442, 1390, 1230, 526} {
		if s < full {
			out = append(out, s)
		}
	}
	return out
}
