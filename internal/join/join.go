// Package join makes a machine a member of a cluster: with a token, once, and
// from then on with the certificates it was given for it.
//
// Join returns a Membership: whom to trust, who this node is, the way to the
// servers, and what is the same on every node; it also gets certificates anew.
// A Directory is where all that is kept. The invariants: no secret is sent before
// the other side has shown the authority whose digest the token carries; what
// was reached is kept, so that a crash costs no more than the step it hit; and
// who has joined starts without a token and without a server. The package runs
// nothing of the node itself.
package join

import (
	"context"
	"net/netip"

	"go.uber.org/zap"

	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/pki"
)

// Config is what Join needs.
type Config struct {
	Host      config.Host
	NodeName  string
	Addresses []netip.Addr // of this machine, for the certificate of the node's own API
	Servers   []string     // https://HOST:PORT, tried in turn
	Token     string       // who has joined does not need it
	Clock     pki.Clock
	Log       *zap.Logger
}

// Join returns this machine's membership. What an earlier call has reached is
// used as long as it is valid, and where that is all, no server is asked.
// Otherwise Join waits for what may yet come (a server that answers, a name that
// gets free) and tells in the log what for; what waiting cannot mend is returned
// as an error that says what to do.
func Join(ctx context.Context, c Config) (*Membership, error) {
	m, err := prepare(c)
	if err != nil {
		return nil, err
	}
	for wait := newPatience(c.Log); ; {
		err := m.advance(ctx)
		switch {
		case err == nil:
			return m.node, nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case !waits(err):
			return nil, err
		}
		if !wait.after(ctx, err) {
			return nil, ctx.Err()
		}
	}
}
