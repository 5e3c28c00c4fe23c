// Package tunnel lets a server reach into the networks of nodes that dial it.
//
// A node's end, Agent, dials a server and upgrades the connection; from then on
// the server's end, a Link of the Hub, speaks HTTP/2 over it as the client, and
// each CONNECT is one connection into the node's network, a net.Conn to whoever
// asked for it. Nodes whose packets find no other way send them through the Hub
// too: Packets is a node's end of that, the Hub hands each on to the node that
// owns its destination. The invariant: a server gets no further into a node's
// network than the node's own Policy allows, and a node sends packets under no
// address but its own. The package knows no kind.
//
// The answer to a CONNECT is not the raw bytes: each run of them has its length
// before it, two bytes, big-endian, and a length of nothing says that the far
// end sends no more, which may leave the other direction open. HTTP/2 as Go
// serves it has no other way to say so. A stream that ends without it was cut
// off. Packets travel over a connection of their own, so that they wait behind
// nobody's log, and are framed the same way; there a length of nothing asks for
// the same in answer, and shows that the way is alive.
package tunnel

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// Path is where a server takes tunnels.
const Path = "/v1-skiff/tunnel"

// What a node may ask a connection to be upgraded to.
const (
	forStreams = "skiff-tunnel"
	forPackets = "skiff-packets"
)

// How long the two ends give each other.
const (
	handshakeTime = 10 * time.Second
	// A way without a word for pingAfter is asked if it is still there, and
	// given up when no answer comes in pingTime: 30 seconds together. The node
	// asks a little later than the server, which keeps it from ever asking where
	// all is well.
	pingAfter     = 20 * time.Second
	nodePingAfter = 25 * time.Second
	pingTime      = 10 * time.Second
	// lingering is how long a connection that was closed may take to deliver
	// what was written before.
	lingering = 5 * time.Second
	dialTime  = 10 * time.Second
)

// headerLen is the length of a run's or a packet's header.
const headerLen = 2

// ErrEnded is part of every error that comes of a tunnel's end.
var ErrEnded = errors.New("the tunnel to the node has ended")

// FarError is why the node did not open a connection.
type FarError struct {
	Node    string
	Text    string // as the node tells it
	Refused bool   // the node's policy does not allow it
}

func (e *FarError) Error() string { return e.Text }

// DisconnectedError says that a node has no tunnel.
type DisconnectedError struct {
	Node string
	Lost time.Duration // how long ago it had one; negative: never to this server
}

func (e *DisconnectedError) Error() string {
	if e.Lost < 0 {
		return fmt.Sprintf("node %q has not connected to this server: see whether skiff runs there and reaches this server", e.Node)
	}
	return fmt.Sprintf("node %q lost its connection to this server %s ago: see whether skiff runs there and reaches this server",
		e.Node, e.Lost.Round(time.Second))
}

// backOff is how long to wait between attempts. A thousand nodes lose a server in
// the same moment, so each wait is a random part of its longest.
type backOff struct{ attempts int }

const (
	firstWait   = 2 * time.Second
	longestWait = 30 * time.Second
	// stable is how long a connection has to live to count as a success: two
	// machines under one name would else take it from each other all the time.
	stable = time.Minute
)

// next returns the wait before the next attempt.
func (b *backOff) next() time.Duration {
	longest := min(firstWait<<min(b.attempts, 8), longestWait)
	b.attempts++
	return rand.N(longest)
}

// lived tells how long the last connection lived.
func (b *backOff) lived(d time.Duration) {
	if d >= stable {
		b.attempts = 0
	}
}
