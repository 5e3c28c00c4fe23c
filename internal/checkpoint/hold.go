package checkpoint

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
)

// held is the body of a watch's answer while no server answers: what is
// remembered, and then nothing until one does.
type held struct {
	ctx   context.Context // ends with the request, and with Close
	away  *absence
	leave func() // done once
	once  sync.Once

	// Used by Read alone.
	unread []byte
	until  time.Time // not before that, for one that says nothing
}

// shortest is how long a watch lasts that says nothing: one that ends within a
// second counts as broken, and its client would ask in another way.
const shortest = 1100 * time.Millisecond

// hold answers a watch from memory.
func (c *Checkpoint) hold(r *http.Request, away *absence) *http.Response {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.collect(questionOf(r))
	k.open++
	text, err := c.tell(r, k)
	if err != nil {
		c.Log.Warn("what is remembered of a watch cannot be used", zap.String("watch", string(questionOf(r))), zap.Error(err))
		text = nil
	}
	ctx, end := context.WithCancel(r.Context())
	body := &held{ctx: ctx, away: away, unread: text, leave: func() {
		end()
		c.mu.Lock()
		defer c.mu.Unlock()
		c.leave(k)
	}}
	if len(text) == 0 {
		body.until = time.Now().Add(shortest)
	}
	return answer(r, http.StatusOK, watchProtobuf, body)
}

// tell writes what a watch is told at its beginning; c.mu is held. Of what is not
// known it is told nothing, which its client takes for a slow server.
func (c *Checkpoint) tell(r *http.Request, k *collection) ([]byte, error) {
	if k.revision == "" || !wantsBookmarks(r) {
		return nil, nil
	}
	if !wantsInitial(r) {
		// That it goes on from where it was; without a word, its client would
		// think that something is wrong with the watch.
		return k.appendBookmark(nil, metav1.ObjectMeta{ResourceVersion: r.URL.Query().Get("resourceVersion")})
	}
	var text []byte
	for _, name := range slices.Sorted(maps.Keys(k.objects)) {
		data, err := c.dataOf(k.objects[name])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if text, err = appendEvent(text, watch.Added, k.wire(data)); err != nil {
			return nil, err
		}
	}
	return k.appendBookmark(text, metav1.ObjectMeta{
		ResourceVersion: k.revision,
		Annotations:     map[string]string{metav1.InitialEventsAnnotationKey: "true"},
	})
}

func (k *collection) appendBookmark(to []byte, meta metav1.ObjectMeta) ([]byte, error) {
	mark := anything{meta: meta}
	data, err := mark.Marshal()
	if err != nil {
		return nil, err
	}
	return appendEvent(to, watch.Bookmark, k.wire(data))
}

// wire is an object of the collection as it is sent.
func (k *collection) wire(data []byte) runtime.Unknown {
	return runtime.Unknown{TypeMeta: runtime.TypeMeta{APIVersion: k.apiVersion, Kind: k.kind}, Raw: data}
}

// Read implements io.Reader.
func (h *held) Read(p []byte) (int, error) {
	if len(h.unread) > 0 {
		n := copy(p, h.unread)
		if h.unread = h.unread[n:]; len(h.unread) == 0 {
			h.unread = nil
		}
		return n, nil
	}
	select {
	case <-h.away.over:
	case <-h.ctx.Done():
		return 0, h.ctx.Err()
	}
	timer := time.NewTimer(time.Until(h.until))
	defer timer.Stop()
	select {
	case <-timer.C:
		return 0, io.EOF
	case <-h.ctx.Done():
		return 0, h.ctx.Err()
	}
}

// Close implements io.Closer.
func (h *held) Close() error {
	h.once.Do(h.leave)
	return nil
}

// answer makes a response that no server gave.
func answer(r *http.Request, code int, media string, body io.ReadCloser) *http.Response {
	return &http.Response{
		Status: fmt.Sprintf("%d %s", code, http.StatusText(code)), StatusCode: code,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {media}}, Body: body, ContentLength: -1, Request: r,
	}
}
