// Package checkpoint remembers what the servers last told a node, so that it
// goes on without them, also across a restart of the agent or of the machine.
//
// A Checkpoint stands between the node's clients and the way to the servers. It
// keeps the objects of every watch that passes: the Pods of this node, the
// ConfigMaps and Secrets they refer to, Services, EndpointSlices, Nodes, and
// whatever else the node's parts watch; and the last token that each Pod was
// given. While no server answers, a watch gets what is remembered, and then
// stays open and silent until one does. So the parts of a node need not know
// about any of this. Reading a single object, listing, and all writes fail as
// they do without a Checkpoint: whoever asks that way wants to know what is,
// not what was.
//
// The invariant: what is remembered of a watch is what a server had at one
// revision, and that revision is told with it. The watch goes on from there when
// a server answers, or begins anew if that is too long ago, so that nothing
// that happened meanwhile is missed.
//
// On disk this is one file, which root alone can read: a journal that is
// written behind what happens, and anew when most of it is out of date. There
// are Secrets in it, and tokens. A machine without a server starts its Pods
// again after a power cut, which upstream's kubelet does not do; that is the
// price. What no Pod refers to any more is forgotten after half an hour and off
// the file an hour later. A token is given again when it has expired, too, and is
// renewed within a minute once a server answers. A file that is damaged, or of
// another cluster or node, is passed over.
package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
)

// Config is what a Checkpoint is made from.
type Config struct {
	Path    string            // of the file; its directory is made
	Cluster string            // whose word is kept, and whose this node is there
	Next    http.RoundTripper // the way to the servers
	Log     *zap.Logger
}

// patience is how long the first answer since the start may take before what is
// remembered is used. A server that is found behind a link that drops packets
// without a word would otherwise hold up every Pod.
const patience = 3 * time.Second

// Checkpoint is an http.RoundTripper that remembers. It is safe for concurrent
// use.
type Checkpoint struct {
	Config
	wake chan struct{} // there is something to write, or to forget
	lost chan struct{} // no server answers any more

	mu    sync.Mutex // guards what follows
	known map[question]*collection
	dirty map[question]*change
	due   schedule
	file  *journal // nil: there is none
	torn  bool     // nobody knows how file ends: the next one is new
	away  *absence // nil: a server answered last, or none has been asked
	met   bool     // a server has answered since Open
}

// Open returns a Checkpoint that knows what the file has. One that cannot be read
// is as good as none, and the log says why.
func Open(c Config) *Checkpoint {
	k := &Checkpoint{
		Config: c, wake: make(chan struct{}, 1), lost: make(chan struct{}, 1),
		known: map[question]*collection{}, dirty: map[question]*change{},
	}
	k.load()
	return k
}

// Run writes what changes, and asks whether a server answers while none does,
// until the context ends. It does not end because the disk fails.
func (c *Checkpoint) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return c.runWriter(ctx) })
	group.Go(func() error { return c.runProbe(ctx) })
	return group.Wait()
}

// Close lets go of the file. It is idempotent.
func (c *Checkpoint) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.file == nil {
		return nil
	}
	file := c.file
	c.file = nil
	return file.close()
}

// RoundTrip implements http.RoundTripper.
func (c *Checkpoint) RoundTrip(r *http.Request) (*http.Response, error) {
	switch {
	case isWatch(r):
		return c.watch(r)
	case isTokenRequest(r):
		return c.token(r)
	}
	return c.pass(r)
}

// pass sends a request on its way and notes that a server answers.
func (c *Checkpoint) pass(r *http.Request) (*http.Response, error) {
	response, err := c.Next.RoundTrip(r)
	if err == nil && answers(response) {
		c.answered()
	}
	return response, err
}

// answers says whether a response is a server's: those of what stands in front
// of servers, and of a server that is about to end, are none.
func answers(r *http.Response) bool {
	switch r.StatusCode {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return false
	}
	return true
}

// errNoServer is why there is no answer where something in between gave one.
var errNoServer = errors.New("no server behind the address that answers")

// watch sends a watch on its way and follows the answer, or answers it from
// memory.
func (c *Checkpoint) watch(r *http.Request) (*http.Response, error) {
	if away := c.absent(); away != nil {
		return c.hold(r, away), nil
	}
	response, err := c.begin(r)
	if r.Context().Err() != nil {
		return response, err
	}
	if err == nil && !answers(response) {
		_ = response.Body.Close() // nobody reads it
		err = errNoServer
	}
	if err != nil {
		return c.hold(r, c.lose(r, err)), nil
	}
	c.answered()
	return c.follow(r, response), nil
}

// begin asks a server. Until one has answered since the start, it does not wait
// long.
func (c *Checkpoint) begin(r *http.Request) (*http.Response, error) {
	c.mu.Lock()
	met := c.met
	c.mu.Unlock()
	if met {
		return c.Next.RoundTrip(r)
	}
	ctx, cancel := context.WithCancel(r.Context())
	impatient := time.AfterFunc(patience, cancel)
	response, err := c.Next.RoundTrip(r.WithContext(ctx))
	inTime := impatient.Stop()
	if err == nil && inTime {
		response.Body = &canceling{response.Body, cancel}
		return response, nil
	}
	cancel()
	if err == nil {
		err = response.Body.Close() // what it was asked with has ended
	}
	if !inTime {
		err = fmt.Errorf("no answer within %s: %w", patience, errors.Join(err, context.DeadlineExceeded))
	}
	return nil, err
}
