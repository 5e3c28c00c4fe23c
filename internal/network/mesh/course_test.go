package mesh

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// world is what a peer answers: by path, the largest size that passes.
type world map[Path]int

// play runs a course against worlds that follow one another, and returns when
// which path was taken, as "seconds path".
type play struct {
	course *course
	now    time.Time
	began  time.Time
	log    []string
	probes int
}

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

const full = 1450

func start(found Path, w ways) *play {
	p := &play{now: noon, began: noon}
	p.course = newCourse(found, full, w, full, usualPace(), noon)
	p.note()
	return p
}

func (p *play) note() {
	text := p.course.path.String()
	if p.course.mtu != full {
		text += fmt.Sprint(" of ", p.course.mtu)
	}
	if len(p.log) > 0 && strings.HasSuffix(p.log[len(p.log)-1], " "+text) {
		return
	}
	p.log = append(p.log, fmt.Sprintf("%d %s", int(p.now.Sub(p.began).Seconds()), text))
}

// run lets time pass; answers come at once.
func (p *play) run(d time.Duration, w world) {
	end := p.now.Add(d)
	for {
		at := p.course.due()
		if at.IsZero() || at.After(end) {
			p.now = end
			return
		}
		if at.After(p.now) {
			p.now = at
		}
		ask := p.course.advance(p.now)
		p.note()
		if ask == nil {
			continue
		}
		p.probes++
		on := p.course.test
		if on == None {
			on = p.course.path
		}
		for _, size := range ask.sizes {
			if size <= w[on] {
				p.course.answered(ask.round, size, p.now)
			}
		}
		p.note()
	}
}

func (p *play) want(t *testing.T, want ...string) {
	t.Helper()
	if !slices.Equal(p.log, want) {
		t.Errorf("went %q, want %q", p.log, want)
	}
}

func TestCourse(t *testing.T) {
	all := ways{relay: true, vxlan: true, direct: true}
	far := ways{relay: true, vxlan: true}
	open := world{Direct: full, VXLAN: full}
	for _, tc := range []struct {
		what  string
		found Path
		ways  ways
		play  func(*play)
		want  []string
	}{
		{"on one link, all passes", None, all, func(p *play) { p.run(time.Hour, open) },
			[]string{"0 relay", "0 direct"}},
		{"behind a router", None, far, func(p *play) { p.run(time.Hour, open) },
			[]string{"0 relay", "0 vxlan"}},
		{"on one link that drops Pods' addresses", None, all, func(p *play) { p.run(time.Hour, world{VXLAN: full}) },
			[]string{"0 relay", "3 vxlan"}},
		{"behind a NAT", None, far, func(p *play) { p.run(time.Hour, world{}) },
			[]string{"0 relay"}},
		{"nothing known but the relay", None, ways{relay: true}, func(p *play) { p.run(time.Hour, open) },
			[]string{"0 relay"}},
		{"nothing at all", None, ways{}, func(p *play) { p.run(time.Hour, open) },
			[]string{"0 none"}},
		{"no relay", None, ways{vxlan: true}, func(p *play) { p.run(time.Hour, open) },
			[]string{"0 none", "0 vxlan"}},
		{"large packets do not pass", None, far, func(p *play) { p.run(time.Hour, world{VXLAN: 1400}) },
			[]string{"0 relay", "3 vxlan of 1390"}},
		{"a former process's path holds", VXLAN, far, func(p *play) { p.run(time.Hour, open) },
			[]string{"0 vxlan"}},
		{"a former process's path is gone", Direct, all, func(p *play) { p.run(time.Minute, world{VXLAN: full}) },
			[]string{"0 direct", "5 relay", "13 vxlan"}},
		{"a former process's path cannot be", Direct, far, func(p *play) { p.run(time.Minute, open) },
			[]string{"0 relay", "0 vxlan"}},
		{"the path dies", None, all, func(p *play) { p.run(10*time.Minute, open); p.run(10*time.Minute, world{VXLAN: full}) },
			[]string{"0 relay", "0 direct", "635 relay", "638 vxlan"}},
		{"the path dies and comes back", None, far, func(p *play) {
			p.run(595*time.Second, open)
			p.run(time.Minute, world{})
			p.run(10*time.Minute, open)
		}, []string{"0 relay", "0 vxlan", "605 relay", "692 vxlan"}},
		{"a better path appears", None, all, func(p *play) { p.run(time.Minute, world{VXLAN: full}); p.run(time.Hour, open) },
			[]string{"0 relay", "3 vxlan", "87 direct"}},
		{"the path comes to carry less", None, far, func(p *play) { p.run(10*time.Minute, open); p.run(10*time.Minute, world{VXLAN: 1300}) },
			[]string{"0 relay", "0 vxlan", "908 vxlan of 1230"}},
		{"the path comes to carry more", None, far, func(p *play) { p.run(10*time.Minute, world{VXLAN: 1400}); p.run(time.Hour, open) },
			[]string{"0 relay", "3 vxlan of 1390", "636 vxlan"}},
		{"large packets are lost by chance", None, all, func(p *play) {
			p.run(3*time.Second, world{Direct: 1300})
			p.run(time.Hour, open)
		}, []string{"0 relay", "3 direct of 1230", "8 direct"}},
		{"the uplink's MTU grows", None, far, func(p *play) {
			p.course.renew(far, 1350, false, p.now)
			p.run(time.Minute, open)
			p.course.renew(far, full, false, p.now)
			p.note()
			p.run(time.Minute, open)
		}, []string{"0 relay", "0 relay of 1350", "0 vxlan of 1350", "60 vxlan"}},
		{"the path dies, no relay", None, ways{vxlan: true}, func(p *play) { p.run(10*time.Minute, open); p.run(10*time.Minute, world{}) },
			[]string{"0 none", "0 vxlan", "635 none"}},
		{"the peer has another address", None, far, func(p *play) {
			p.run(time.Minute, open)
			p.course.renew(far, full, true, p.now)
			p.note()
			p.run(time.Minute, open)
		}, []string{"0 relay", "0 vxlan", "60 relay", "60 vxlan"}},
		{"the link is another, the path in use stays", None, far, func(p *play) {
			p.run(time.Minute, open)
			p.course.renew(all, full, false, p.now)
			p.run(time.Minute, open)
		}, []string{"0 relay", "0 vxlan", "60 direct"}},
		{"the relay shuts and opens", None, far, func(p *play) {
			p.run(time.Minute, world{})
			p.course.setRelay(false, p.now)
			p.note()
			p.run(time.Minute, world{})
			p.course.setRelay(true, p.now)
			p.note()
			p.run(time.Minute, open)
		}, []string{"0 relay", "60 none", "120 relay", "120 vxlan"}},
		{"the peer greets", None, far, func(p *play) {
			p.run(time.Hour, world{})
			p.course.greeted(p.now)
			p.run(time.Second, open)
		}, []string{"0 relay", "3600 vxlan"}},
	} {
		t.Run(tc.what, func(t *testing.T) {
			p := start(tc.found, tc.ways)
			tc.play(p)
			p.want(t, tc.want...)
		})
	}
}

// A path that answers tests and then does not hold is tested ever less often.
func TestCourseDoesNotFlap(t *testing.T) {
	p := start(None, ways{relay: true, vxlan: true})
	for range 100 {
		p.run(31*time.Second, world{VXLAN: full})
		p.run(31*time.Second, world{})
	}
	changes := len(p.log)
	if minutes := p.now.Sub(noon).Minutes(); changes > 40 {
		t.Errorf("%d changes in %.0f minutes: %q", changes, minutes, p.log)
	}
}

// What a peer costs in an hour, in probes.
func TestCourseIsCheap(t *testing.T) {
	for _, tc := range []struct {
		what  string
		world world
		most  int
	}{
		{"on the best path", world{Direct: full}, 125},
		{"on the second best", world{VXLAN: full}, 180},
		{"behind a NAT", world{}, 120},
		{"on the best path, which carries less", world{Direct: 1400}, 180},
	} {
		p := start(None, ways{relay: true, vxlan: true, direct: true})
		p.run(time.Hour, tc.world)
		if p.probes > tc.most {
			t.Errorf("%s: %d probes in an hour", tc.what, p.probes)
		}
	}
}

// Two that hear each other's tests do not keep each other testing.
func TestGreetingsEnd(t *testing.T) {
	p := start(None, ways{relay: true, vxlan: true})
	p.run(time.Hour, world{})
	before := p.probes
	for range 50 {
		p.course.greeted(p.now)
		if ask := p.course.advance(p.now); ask != nil && ask.asks {
			t.Fatal("a test that a greeting caused greets back")
		}
		p.run(100*time.Millisecond, world{})
	}
	if got := p.probes - before; got > 10 {
		t.Errorf("%d probes in 5 seconds", got)
	}
}

func TestStaleAnswersCountForNothing(t *testing.T) {
	p := start(None, ways{relay: true, vxlan: true, direct: true})
	first := p.course.advance(p.now)
	p.run(4*time.Second, world{}) // direct is over, VXLAN under test
	p.course.answered(first.round, full, p.now)
	if p.course.path != Relay {
		t.Errorf("on %s by an answer to another test", p.course.path)
	}
}

func TestSizes(t *testing.T) {
	for _, size := range []int{526, 1450, 8950} {
		all := sizes(size)
		if all[0] != size || all[len(all)-1] != 526 || !slices.IsSortedFunc(all, func(a, b int) int { return b - a }) {
			t.Errorf("sizes of %d: %v", size, all)
		}
		for _, s := range all {
			if s <= leastSize {
				t.Errorf("size %d says nothing", s)
			}
		}
	}
}
