package rest

import (
	"bytes"
	"context"
	"encoding/binary"
	stderrors "errors"
	"io"
	"math/bits"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/gorilla/websocket"
	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/skiff-sh/skiff/internal/api"
)

// minWatchTimeout is how long a watch lasts at least if the client sets no
// end; up to twice that, so that all do not come back at the same time.
const minWatchTimeout = 30 * time.Minute

// flushAbove bounds what waits for one flush while events keep coming.
const flushAbove = 64 << 10

// watch streams events until the client, the time or the server ends it. It does
// nothing else itself: while a watch waits, which most do for ever, its stack should
// be as small as that of any idle request.
func (h *Handler) watch(w http.ResponseWriter, q *request) error {
	ctx, stream, err := h.openWatch(w, q)
	if err != nil || stream == nil {
		return err
	}
	defer stream.close()
	if websocket.IsWebSocketUpgrade(q.Request) {
		stream.serveWebSocket(ctx, w, stream.events)
		return nil
	}
	stream.begin(w)
	stream.run(ctx, stream.events)
	return nil
}

// openWatch prepares what the client asks for; there is no stream where the client
// was told already that nothing is to come.
func (h *Handler) openWatch(w http.ResponseWriter, q *request) (context.Context, *watchStream, error) {
	if _, err := h.negotiate(q.Request, true, false); err != nil {
		return nil, nil, err
	}
	options, err := q.listOptions()
	if err != nil {
		return nil, nil, err
	}
	timeout := minWatchTimeout + rand.N(minWatchTimeout)
	if s := options.TimeoutSeconds; s != nil && *s > 0 {
		timeout = time.Duration(*s) * time.Second
	}
	stream := &watchStream{h: h, w: patiently(w), flush: patientFlush(h, w), q: q}
	ctx, done := h.longRunning(q.Context(), w, timeout)
	stream.done = done
	stream.events, err = h.API.Watch(ctx, q.api(), options)
	release(w)
	// Upstream says this in the stream: clients look for it there.
	late := errors.IsResourceExpired(err) || errors.HasStatusCause(err, metav1.CauseTypeResourceVersionTooLarge)
	if err != nil && !late {
		done()
		return nil, nil, err
	}
	if refused := stream.negotiate(); refused != nil {
		stream.close()
		return nil, nil, refused
	}
	if late {
		defer done()
		stream.begin(w)
		stream.end(err)
		return nil, nil, nil
	}
	return ctx, stream, nil
}

// negotiate chooses what the stream is made of. That it cannot be had as it is wanted
// is told after all that is wrong with the watch, as upstream does.
func (s *watchStream) negotiate() error {
	f, err := s.h.negotiate(s.q.Request, true, true)
	if err != nil {
		return err
	}
	include, err := s.q.includeObject(f)
	if err != nil {
		return err
	}
	s.form = f
	if f.view == viewTable {
		s.tables = s.h.newTables(s.q.res, f, include)
	}
	return nil
}

// watchStream writes the events of one watch.
type watchStream struct {
	h       *Handler
	w       io.Writer
	flush   func() error
	q       *request
	form    form
	tables  *tables
	started bool // the first Table, with the columns, has been sent

	messages bool // each event is one message
	events   *api.Watch
	done     func() // after it
}

func (s *watchStream) close() {
	if s.events != nil {
		s.events.Stop()
	}
	s.done()
}

// begin sends the headers, so that the client knows that it is watching.
func (s *watchStream) begin(w http.ResponseWriter) {
	header := w.Header()
	header.Set("Content-Type", s.form.contentType(true))
	header["Cache-Control"] = noCache
	w.WriteHeader(http.StatusOK)
	_ = s.flush()
}

// run writes events as they come and flushes when no more are waiting.
func (s *watchStream) run(ctx context.Context, events *api.Watch) {
	for {
		event, err := events.Next(ctx)
		if err == nil {
			err = s.send(ctx, events, event)
		}
		if err != nil {
			if ctx.Err() == nil && !stderrors.Is(err, errGone) {
				s.end(err)
			}
			return
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// errGone says that the client does not listen any more.
var errGone = stderrors.New("client went away")

// room waits until there is room for a large event, which counts until its client has
// it: there may be a thousand clients that do not read.
func (s *watchStream) room(ctx context.Context, event api.Event) (give func(), err error) {
	sized, ok := event.Object.(interface{ Size() int })
	if !ok {
		return nil, nil
	}
	size := sized.Size()
	if size <= flushAbove {
		return nil, nil
	}
	return s.h.answers.take(ctx, 2*int64(size))
}

// patientFlush is what sends all that was written, as long as the client takes it.
func patientFlush(h *Handler, w http.ResponseWriter) func() error {
	flush := http.NewResponseController(w).Flush
	return func() error {
		defer h.patience.forAnswer(w)()
		return flush()
	}
}

// send writes an event and those that wait behind it. The buffer is borrowed
// for that only: most watches are idle, and there may be thousands.
func (s *watchStream) send(ctx context.Context, events *api.Watch, event api.Event) error {
	b := takeBuffer()
	defer giveBuffer(b)
	more, err := true, error(nil)
	for more && err == nil {
		whole := b.Len()
		give, refused := s.room(ctx, event)
		if refused != nil {
			err = refused
			break
		}
		if give != nil {
			defer give()
		}
		if err = s.append(b, event); stderrors.Is(err, errGone) {
			return err
		}
		if err != nil {
			b.Truncate(whole)
			break
		}
		if b.Len() > flushAbove || give != nil {
			break
		}
		event, more, err = events.Poll()
	}
	if _, failed := s.w.Write(b.Bytes()); failed != nil {
		return errGone
	}
	if s.flush() != nil {
		return errGone
	}
	return err
}

// end tells the client why the watch ends.
func (s *watchStream) end(err error) {
	if stderrors.Is(err, context.Canceled) || stderrors.Is(err, context.DeadlineExceeded) {
		return
	}
	status := statusOf(err)
	var object, b bytes.Buffer
	if appendAny(&object, &status, statusGVK, s.form.media) != nil {
		return
	}
	s.frame(&b, watch.Error, object.Bytes())
	_, _ = s.w.Write(b.Bytes())
	_ = s.flush()
}

// append writes one event.
func (s *watchStream) append(b *bytes.Buffer, event api.Event) error {
	if s.form.view == viewObject && s.form.media == mediaJSON {
		return s.appendJSON(b, event)
	}
	object := takeBuffer()
	defer giveBuffer(object)
	if err := s.appendObject(object, event); err != nil {
		return err
	}
	s.frame(b, event.Type, object.Bytes())
	return nil
}

// appendJSON is the common case, without copying the object twice.
func (s *watchStream) appendJSON(b *bytes.Buffer, event api.Event) error {
	b.WriteString(`{"type":"`)
	b.WriteString(string(event.Type))
	b.WriteString(`","object":`)
	data, err := s.h.encodings.bare(s.q.res, event.Object, mediaJSON, event.Type != watch.Bookmark)
	if err != nil {
		return err
	}
	b.Write(s.q.res.jsonType)
	if len(data) <= flushAbove || s.messages {
		b.Write(data[1:])
	} else if err := s.pass(b, data[1:]); err != nil {
		return err
	}
	b.WriteString("}\n")
	return nil
}

// pass sends what is in the buffer and then what others send, too: a thousand watches
// of a large object that nobody reads must not have a copy each.
func (s *watchStream) pass(b *bytes.Buffer, shared []byte) error {
	defer b.Reset()
	for _, data := range [][]byte{b.Bytes(), shared} {
		if _, err := s.w.Write(data); err != nil {
			return errGone
		}
	}
	return nil
}

// appendObject writes an event's object in the form's view.
func (s *watchStream) appendObject(b *bytes.Buffer, event api.Event) error {
	switch s.form.view {
	case viewTable:
		meta := metav1.ListMeta{ResourceVersion: event.Object.GetResourceVersion()}
		s.tables.now = s.h.Now()
		table, err := s.tables.table(meta, !s.started, event.Object)
		if err != nil {
			return err
		}
		s.started = true
		return appendAny(b, table, s.form.gvk("Table"), s.form.media)
	case viewPartialList:
		return errGone // upstream's stream ends without a word, for an object is no list
	case viewPartial:
		partial := partialOf(event.Object, s.form)
		partial.TypeMeta = metav1.TypeMeta{}
		return appendAny(b, partial, s.form.gvk("PartialObjectMetadata"), s.form.media)
	}
	return s.h.encodings.appendObject(b, s.q.res, event.Object, s.form, event.Type != watch.Bookmark)
}

// frame wraps an encoded object as an event: JSON by itself, or a protobuf
// WatchEvent behind its length in four bytes.
func (s *watchStream) frame(b *bytes.Buffer, t watch.EventType, object []byte) {
	if s.form.media == mediaProtobuf {
		raw := 1 + varintLen(len(object)) + len(object)
		message := 1 + varintLen(len(t)) + len(t) + 1 + varintLen(raw) + raw
		head := binary.BigEndian.AppendUint32(b.AvailableBuffer(), uint32(message))
		head = appendMessage(head, 0x0a, []byte(t))
		head = appendVarint(append(head, 0x12), raw)
		b.Write(appendVarint(append(head, 0x0a), len(object)))
		b.Write(object)
		return
	}
	b.WriteString(`{"type":"`)
	b.WriteString(string(t))
	b.WriteString(`","object":`)
	b.Write(object)
	b.WriteString("}\n")
}

// varintLen is how many bytes a length takes in a message.
func varintLen(n int) int { return (bits.Len64(uint64(n)|1) + 6) / 7 }
