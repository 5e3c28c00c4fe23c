package mesh

import (
	"fmt"

	"go.uber.org/zap"
)

// tell writes to the log which paths are used that were not before, when their
// tests are over, and what may be done for better ones.
func (s *session) tell() {
	for _, m := range s.members {
		path := m.course.path
		if !m.course.resting() || m.isTold && path == m.told {
			continue
		}
		m.told, m.isTold = path, true
		fields := []zap.Field{zap.String("node", m.peer.name), zap.Stringer("path", path), zap.Int("mtu", m.course.mtu)}
		if path <= Relay && m.course.ways.between(beyond, Relay) != None {
			s.warnOfFirewalls()
			fields = append(fields, zap.String("advice", fmt.Sprintf(
				"let UDP port %d and ICMP echo pass between this node and %s, unless a NAT is in between", vxlanPort, m.peer.node)))
		}
		if path == None {
			s.cfg.Log.Warn("no path to node", fields...)
		} else {
			s.cfg.Log.Info("path to node", fields...)
		}
	}
}

// warnOfFirewalls names those of this machine, once.
func (s *session) warnOfFirewalls() {
	if s.warned {
		return
	}
	s.warned = true
	found, err := conflicts(s.cfg.Host)
	if err != nil {
		s.cfg.Log.Warn("cannot look for firewalls that keep other nodes' packets out", zap.Error(err))
	}
	for _, c := range found {
		s.cfg.Log.Warn("a firewall may keep other nodes' packets out", zap.String("reason", c))
	}
}
