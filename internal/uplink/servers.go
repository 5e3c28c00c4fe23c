package uplink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"sync"
	"time"
)

// servers are the HOST:PORTs of those that may answer.
type servers struct {
	named []string // by a person; constant

	mu      sync.Mutex // guards what follows
	learned []string   // from the cluster
	last    string     // the one that answered last
}

// hostOf returns HOST:PORT of a server's URL.
func hostOf(text string) (string, error) {
	server, err := url.Parse(text)
	if err != nil {
		return "", err
	}
	if server.Scheme != "https" || server.Port() == "" {
		return "", fmt.Errorf("server %q: expected https://HOST:PORT, such as https://192.0.2.1:6443", text)
	}
	return server.Host, nil
}

func (s *servers) learn(hosts []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.learned = hosts
}

func (s *servers) answered(host string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = host
}

// turn returns all servers, each once, in the order in which to try them: from
// the one that answered last, in a circle.
func (s *servers) turn() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for _, host := range slices.Concat(s.named, s.learned) {
		if !slices.Contains(all, host) {
			all = append(all, host)
		}
	}
	first := max(slices.Index(all, s.last), 0)
	return slices.Concat(all[first:], all[:first])
}

// headStart is how long a server has to answer before the next is tried beside
// it: one behind a link that swallows everything must not cost a node its Lease.
const headStart = 2 * time.Second

// attempt is how connecting to a server ended.
type attempt struct {
	host string
	conn net.Conn
	err  error
}

// dial connects to the first server in turn that answers.
func (u *Uplink) dial(ctx context.Context, protocols ...string) (net.Conn, error) {
	hosts := u.servers.turn()
	tried := make(chan attempt, len(hosts))
	var all sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		all.Wait()
		for len(tried) > 0 {
			if late := <-tried; late.conn != nil {
				_ = late.conn.Close() // another was faster
			}
		}
	}()
	begun := 0
	next := time.NewTimer(0)
	defer next.Stop()
	var errs []error
	for len(errs) < len(hosts) {
		select {
		case <-next.C:
			if begun < len(hosts) {
				host := hosts[begun]
				begun++
				all.Go(func() {
					conn, err := u.dialOne(ctx, host, protocols)
					tried <- attempt{host, conn, err}
				})
				next.Reset(headStart)
			}
		case a := <-tried:
			if a.err == nil {
				u.servers.answered(a.host)
				return a.conn, nil
			}
			errs = append(errs, fmt.Errorf("connect to %s: %w", a.host, a.err))
			next.Reset(0)
		}
	}
	return nil, errors.Join(errs...)
}
