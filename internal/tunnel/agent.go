package tunnel

import (
	"context"
	"net"
	"sync"
	"time"

	"go.uber.org/zap"
)

// Agent is a node's end of its tunnel, which it opens again whenever it ends.
type Agent struct {
	// Connect opens a connection for HTTP/1.1 to a server, as the node.
	Connect func(context.Context) (net.Conn, error)
	// Dial connects to what the server asks for.
	Dial Dialer
	// Packets is the node's way for packets (optional).
	Packets *Packets
	// Renewed returns a channel that is closed when Connect would present another
	// certificate: a new tunnel is opened then, and the old one ends when its
	// streams have. nil: never.
	Renewed func() <-chan struct{}
	Log     *zap.Logger
}

// Run keeps the tunnel up until the context ends.
func (a *Agent) Run(ctx context.Context) error {
	var tunnels sync.WaitGroup // several while one ends that was replaced
	defer tunnels.Wait()
	var wait backOff
	troubled := false
	for ctx.Err() == nil {
		renewed := a.renewed()
		conn, err := a.open(ctx)
		if err != nil {
			a.opened(false)
			if !troubled && ctx.Err() == nil {
				a.Log.Warn("no tunnel to a server: logs, exec and the like do not reach this node; trying on", zap.Error(err))
			}
			troubled = true
			pause(ctx, wait.next())
			continue
		}
		a.Log.Info("tunnel open", zap.Stringer("server", conn.RemoteAddr()))
		troubled = false
		began, ended := time.Now(), make(chan struct{})
		tunnels.Go(func() {
			defer close(ended)
			a.serve(ctx, conn)
		})
		a.opened(true)
		select {
		case <-renewed:
			a.Log.Info("certificate renewed: opening a new tunnel")
			continue
		case <-ended:
		}
		if ctx.Err() == nil {
			a.opened(false)
			a.Log.Info("tunnel ended, opening another", zap.Duration("after", time.Since(began)))
			wait.lived(time.Since(began))
			pause(ctx, wait.next())
		}
	}
	return nil
}

func (a *Agent) renewed() <-chan struct{} {
	if a.Renewed == nil {
		return nil
	}
	return a.Renewed()
}

func (a *Agent) serve(ctx context.Context, conn net.Conn) {
	var wake func()
	if a.Packets != nil {
		wake = a.Packets.wake
	}
	Serve(ctx, conn, a.Dial, wake, a.Log)
}

func (a *Agent) opened(open bool) {
	if a.Packets != nil {
		a.Packets.outlet.setOpen(open)
	}
}

func (a *Agent) open(ctx context.Context) (net.Conn, error) {
	conn, err := a.Connect(ctx)
	if err != nil {
		return nil, err
	}
	if conn, err = ask(ctx, conn, forStreams); err == nil {
		keepShort(conn) // as the server does
	}
	return conn, err
}

// pause waits. It returns false when the context ended first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
