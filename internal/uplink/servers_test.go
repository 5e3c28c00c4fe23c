package uplink

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestTurn(t *testing.T) {
	s := servers{named: []string{"a", "b"}}
	for _, tc := range []struct {
		learned []string
		last    string
		want    string
	}{
		{nil, "", "a b"},
		{nil, "b", "b a"},
		{[]string{"c", "a", "d"}, "b", "b c d a"},
		{[]string{"c", "a", "d"}, "d", "d a b c"},
		{nil, "d", "a b"}, // d is none any more
	} {
		s.learn(tc.learned)
		s.answered(tc.last)
		if got := strings.Join(s.turn(), " "); got != tc.want {
			t.Errorf("learned %q, last %q: got %q, want %q", tc.learned, tc.last, got, tc.want)
		}
	}
}

// The addresses in these tests: what answers, refuses, or swallows everything.
const (
	answers  = "192.0.2.1:6443"
	refuses  = "192.0.2.2:6443"
	swallows = "192.0.2.3:6443"
	slow     = "192.0.2.4:6443" // answers after three seconds
)

// among makes the uplink's servers these, and returns what has been tried.
func (c *cluster) among(named ...string) *[]string {
	var mu sync.Mutex
	var tried []string
	c.uplink.servers.named = named
	direct := c.uplink.Connect
	c.uplink.Connect = func(ctx context.Context, address string) (net.Conn, error) {
		mu.Lock()
		tried = append(tried, address)
		mu.Unlock()
		switch address {
		case refuses:
			return nil, errors.New("connection refused")
		case swallows:
			<-ctx.Done()
			return nil, ctx.Err()
		case slow:
			select {
			case <-time.After(3 * time.Second):
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		return direct(ctx, address)
	}
	return &tried
}

func TestServersAreTriedInTurn(t *testing.T) {
	for _, tc := range []struct {
		what     string
		named    []string
		tried    []string
		answered string
		took     time.Duration
	}{
		{"one that answers", []string{answers, refuses}, []string{answers}, answers, 0},
		{"one that refuses", []string{refuses, answers}, []string{refuses, answers}, answers, 0},
		{"one that swallows everything", []string{swallows, refuses, answers}, []string{swallows, refuses, answers}, answers, headStart},
		{"a slow one, and none is faster", []string{slow, swallows}, []string{slow, swallows}, slow, 3 * time.Second},
		{"a slow one, and another is faster", []string{slow, answers}, []string{slow, answers}, answers, headStart},
	} {
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(t)
			tried, began := c.among(tc.named...), time.Now()
			conn, err := c.uplink.Dial(t.Context())
			if err != nil {
				t.Fatalf("%s: %v", tc.what, err)
			}
			_ = conn.Close()
			if took := time.Since(began); took != tc.took || !slices.Equal(*tried, tc.tried) {
				t.Errorf("%s: tried %q within %s, want %q within %s", tc.what, *tried, took, tc.tried, tc.took)
			}
			*tried = nil
			if conn, err = c.uplink.Dial(t.Context()); err != nil {
				t.Fatalf("%s: %v", tc.what, err)
			}
			_ = conn.Close()
			if (*tried)[0] != tc.answered {
				t.Errorf("%s: then tried %q first", tc.what, *tried)
			}
		})
	}
}

func TestNoServerAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.among(refuses, swallows)
		began := time.Now()
		_, err := c.uplink.Dial(t.Context())
		if err == nil || !strings.Contains(err.Error(), refuses+": connection refused") || !strings.Contains(err.Error(), "connect to "+swallows) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(began); took != dialTimeout {
			t.Errorf("took %s", took)
		}
	})
}

// A server that the cluster names itself is found when those that a person named
// are gone.
func TestLearnedServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.among(refuses)
		if _, err := c.uplink.Dial(t.Context()); err == nil {
			t.Fatal("connected to nobody")
		}
		c.uplink.Learn([]string{"https://" + refuses, "nonsense", "https://" + answers})
		conn, err := c.uplink.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
	})
}
