package mesh

import (
	"context"
	"net/netip"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"

	"github.com/skiff-sh/skiff/internal/network"
)

// member is a peer and what is decided about it.
type member struct {
	peer   peer
	facts  facts
	course *course
	shown  view // what the plan has of it
	told   Path // what the log has, if it has anything
	isTold bool
}

// view is what of a member goes into the plan.
type view struct {
	facts      facts
	path, test Path
	mtu, full  int
	vxlan      bool
}

func (m *member) view() view {
	c := m.course
	return view{m.facts, c.path, c.test, c.mtu, c.full, c.ways.vxlan}
}

// session is the mesh while this node has one share of the Pod range. All but
// up belongs to loop.
type session struct {
	*Mesh
	own     netip.Prefix
	list    func() []*corev1.Node
	links   links
	relay   *relay  // nil if there is none
	echoes  *echoes // nil if there are none: nothing can be proven then
	mtu     int
	members map[netip.Addr]*member // by the peer's beacon
	found   map[netip.Prefix]hop   // what a former process left; nil once it is adopted
	said    map[string]bool        // claims that the log has
	warned  bool                   // of this machine's firewalls

	up   atomic.Bool // the relay is open
	seen time.Time   // when it was last seen open
	open bool        // it is, as the courses have it

	changed chan struct{} // the machine's links may have
	opened  chan struct{} // the relay may have opened or shut
	heard   chan echo

	lookAt  time.Time // when to look at the machine's links and routes again; zero: not
	dirty   bool      // the kernel may not have the plan
	retryAt time.Time // when to apply the plan again that could not be
}

const (
	// applyAgain is when a plan is tried again that the kernel did not take.
	applyAgain = 5 * time.Second
	// checksTogether is how much earlier a check may come to go with another.
	checksTogether = 5 * time.Second
)

// session runs until the context ends or the node's share is another.
func (m *Mesh) session(ctx context.Context, own netip.Prefix, list func() []*corev1.Node) error {
	s := &session{
		Mesh: m, own: own, list: list, members: map[netip.Addr]*member{}, said: map[string]bool{}, dirty: true,
		changed: make(chan struct{}, 1), opened: make(chan struct{}, 1), heard: make(chan echo, 256),
	}
	defer s.close()
	if err := s.start(); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return network.Watch(ctx, m.cfg.Host.LinkPrefix, func() { poke(s.changed) }) })
	if s.echoes != nil {
		group.Go(func() error { return s.echoes.receive(ctx, s.heard) })
	}
	if s.relay != nil {
		group.Go(func() error {
			return s.relay.run(ctx, func(open bool) { s.up.Store(open); poke(s.opened) })
		})
	}
	group.Go(func() error { return s.loop(ctx) })
	return group.Wait()
}

// close closes what start opened; links and routes stay.
func (s *session) close() {
	if s.echoes != nil {
		s.echoes.conn.Close()
	}
	if s.relay != nil {
		s.relay.link.Close()
	}
}

// start makes the links and reads what is there. What cannot be had here is
// done without.
func (s *session) start() (err error) {
	s.mtu = network.PodMTU()
	if s.links.vxlan, err = ensureVXLAN(s.cfg.Host, s.own, s.mtu); err != nil {
		s.cfg.Log.Warn("other nodes are not reached by VXLAN", zap.Error(err))
	}
	if s.cfg.Packets != nil {
		file, index, err := openRelay(s.cfg.Host, s.own, s.mtu)
		if err != nil {
			s.cfg.Log.Warn("other nodes are not reached by way of the servers", zap.Error(err))
		} else {
			s.links.relay = index
			s.relay = &relay{link: file, packets: s.cfg.Packets, own: s.own, ranges: s.cfg.ClusterCIDRs}
		}
	}
	if s.echoes, err = openEchoes(gateway(s.own)); err != nil {
		s.cfg.Log.Warn("paths to other nodes cannot be proven: only that by way of the servers is used", zap.Error(err))
	}
	if s.found, err = s.links.found(); err != nil {
		return err
	}
	s.adopt(time.Now())
	return nil
}

// adopt makes the first members, on the paths that are there.
func (s *session) adopt(now time.Time) {
	s.open, s.seen = s.relay != nil, now // or what is routed there would be refused
	s.readNodes(now)
	s.found = nil
}

func (s *session) loop(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.nodes:
			if !s.readNodes(time.Now()) {
				return errMoved
			}
		case <-s.changed:
			if s.lookAt.IsZero() { // what changes, changes more than once
				s.lookAt = time.Now().Add(s.pace.settle)
			}
		case <-s.opened:
		case e := <-s.heard:
			s.hear(e, time.Now())
		case <-timer.C:
		}
		for range len(s.heard) {
			s.hear(<-s.heard, time.Now())
		}
		timer.Reset(time.Until(s.step(time.Now())))
	}
}

// hear takes what a peer answered or asked.
func (s *session) hear(e echo, now time.Time) {
	p, is := s.members[e.from]
	switch {
	case !is:
	case e.answer:
		p.course.answered(e.round, e.size, now)
	default:
		p.course.greeted(now)
	}
}

// step does all that is due and returns when the next thing is.
func (s *session) step(now time.Time) time.Time {
	if !s.lookAt.IsZero() && !now.Before(s.lookAt) {
		s.lookAt = time.Time{}
		s.look(now)
	}
	s.followRelay(now)
	probes := s.advance(now)
	if s.dirty || !s.retryAt.IsZero() && !now.Before(s.retryAt) {
		s.apply(now)
	}
	for to, p := range probes {
		s.echoes.send(to, p)
	}
	s.publish(s.members)
	s.tell()
	return s.next(now)
}

// followRelay tells the courses whether the relay is open. For a while it counts
// as open when it is not: a server that restarts is soon back, and who connects
// meanwhile shall wait, not be refused.
func (s *session) followRelay(now time.Time) {
	if s.relay == nil {
		return
	}
	if s.up.Load() {
		s.seen = now
	}
	open := now.Sub(s.seen) < s.pace.linger
	if open == s.open {
		return
	}
	s.open = open
	for _, p := range s.members {
		p.course.setRelay(open, now)
	}
}

// advance moves every course on and returns what to ask of whom.
func (s *session) advance(now time.Time) map[netip.Addr]*probe {
	due := func(c *course) bool { at := c.due(); return !at.IsZero() && !now.Before(at) }
	any := false
	for _, p := range s.members {
		any = any || due(p.course)
	}
	probes := map[netip.Addr]*probe{}
	for at, p := range s.members {
		if any {
			p.course.hasten(now.Add(checksTogether), now)
		}
		if ask := p.course.advance(now); ask != nil {
			probes[at] = ask
		}
		if v := p.view(); v != p.shown {
			p.shown, s.dirty = v, true
		}
	}
	return probes
}

func (s *session) apply(now time.Time) {
	p := newPlan(s.own)
	for _, m := range s.members {
		p.add(m.peer, m.facts, m.course)
	}
	s.dirty, s.retryAt = false, time.Time{}
	if err := s.links.apply(p); err != nil {
		// Links come and go: most likely the next look mends it.
		s.cfg.Log.Warn("paths to other nodes are not all in place", zap.Error(err))
		s.retryAt = now.Add(applyAgain)
	}
}

func (s *session) next(now time.Time) time.Time {
	next := now.Add(time.Hour)
	earlier := func(t time.Time) {
		if !t.IsZero() && t.Before(next) {
			next = t
		}
	}
	earlier(s.lookAt)
	earlier(s.retryAt)
	if s.open && !s.up.Load() {
		earlier(s.seen.Add(s.pace.linger))
	}
	for _, p := range s.members {
		earlier(p.course.due())
	}
	return next
}

// ways says which paths there might be.
func (s *session) ways(f facts) ways {
	w := ways{relay: s.open}
	if s.echoes != nil {
		w.vxlan = f.reach && s.links.vxlan != 0
		w.direct = f.link != 0
	}
	return w
}

// readNodes takes up who is in the mesh. It returns false if this node's share
// is not what it was.
func (s *session) readNodes(now time.Time) bool {
	r := newRoster(s.list(), s.cfg.NodeName, s.cfg.ClusterCIDRs)
	if r.own != s.own {
		return false
	}
	for _, text := range r.refused {
		if !s.said[text] {
			s.said[text] = true
			s.cfg.Log.Warn("a node's Pods are not reached", zap.String("reason", text))
		}
	}
	left := s.members
	s.members = make(map[netip.Addr]*member, len(r.peers))
	strict := map[int]bool{}
	for _, p := range r.peers {
		m, known := left[beacon(p.pods)]
		delete(left, beacon(p.pods))
		switch {
		case !known || m.peer.name != p.name || m.peer.pods != p.pods:
			m = s.newMember(p, strict, now)
		case m.peer != p:
			m.peer = p
			s.renew(m, look(p.node, strict, s.links.vxlan, s.links.relay), now)
		}
		s.members[beacon(p.pods)] = m
	}
	s.dirty = s.dirty || len(left) > 0
	return true
}

func (s *session) newMember(p peer, strict map[int]bool, now time.Time) *member {
	f := look(p.node, strict, s.links.vxlan, s.links.relay)
	there := s.found[p.pods]
	if there.path == Direct && (there.link != f.link || there.via != f.node) {
		there = hop{} // to where the peer was
	}
	return &member{
		peer: p, facts: f,
		course: newCourse(there.path, there.mtu, s.ways(f), s.mtu, s.pace, now),
	}
}

// renew tells a member's course what the machine's routes say now.
func (s *session) renew(m *member, f facts, now time.Time) {
	moved := f.node != m.facts.node || m.course.path == Direct && f.link != m.facts.link
	m.facts = f
	m.course.renew(s.ways(f), s.mtu, moved, now)
}

// look reads the machine's links and routes anew.
func (s *session) look(now time.Time) {
	mtu := network.PodMTU()
	before := s.links.vxlan
	index, err := ensureVXLAN(s.cfg.Host, s.own, mtu)
	if err != nil && before != 0 {
		s.cfg.Log.Warn("other nodes are not reached by VXLAN", zap.Error(err))
	}
	s.links.vxlan = index
	if s.relay != nil && mtu != s.mtu {
		if _, err := settleRelay(s.cfg.Host, s.own, mtu); err != nil {
			s.cfg.Log.Warn("link to the servers keeps its MTU", zap.Error(err))
		}
	}
	all := mtu != s.mtu || before != index
	s.mtu = mtu
	strict := map[int]bool{}
	for _, m := range s.members {
		if f := look(m.peer.node, strict, s.links.vxlan, s.links.relay); all || f != m.facts {
			s.renew(m, f, now)
		}
	}
	s.dirty = true // a link that went down took routes with it
}
