package uplink

import (
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
)

// connections are those to servers that are open.
type connections struct {
	mu   sync.Mutex // guards open
	open map[*connection]bool
}

// connection is a connection of which it is known when it is closed.
type connection struct {
	net.Conn
	in *connections
}

func (c *connections) add(conn net.Conn) net.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open == nil {
		c.open = map[*connection]bool{}
	}
	one := &connection{Conn: conn, in: c}
	c.open[one] = true
	return one
}

// Close implements net.Conn.
func (c *connection) Close() error {
	c.in.mu.Lock()
	delete(c.in.open, c)
	c.in.mu.Unlock()
	return c.Conn.Close()
}

// Close closes all connections, and ends what goes on over them. Who asks again
// gets new ones.
func (u *Uplink) Close() {
	for _, conn := range u.connections.all() {
		_ = conn.Close() // nothing is left to be told
	}
}

// Leave closes all connections from an address that the machine has no longer:
// what is sent from there is not answered, which would show only after a while
// of silence. New ones begin at another.
func (u *Uplink) Leave(address netip.Addr) {
	for _, conn := range u.connections.from(address) {
		_ = conn.Close() // whoever uses it gets an error and dials anew
	}
}

func (c *connections) all() []*connection {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Collect(maps.Keys(c.open))
}

func (c *connections) from(address netip.Addr) []*connection {
	return slices.DeleteFunc(c.all(), func(conn *connection) bool {
		local, ok := conn.LocalAddr().(*net.TCPAddr)
		return !ok || local.AddrPort().Addr().Unmap() != address
	})
}
