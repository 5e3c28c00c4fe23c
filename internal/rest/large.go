package rest

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/klauspost/compress/gzip"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/kind"
)

// An answer above largeAnswer counts, until its client has it, and a client must go
// on reading: largePatience for each part of that size.
const (
	largeAnswer   = 256 << 10
	largePatience = 10 * time.Second
)

// encoded has an answer encoded. A large one waits, not encoded, until there is room.
func (h *Handler) encoded(w http.ResponseWriter, q *request, encode func(*bytes.Buffer) error) (*bytes.Buffer, error) {
	release(w)
	b := takeBuffer()
	if err := encode(b); err != nil {
		giveBuffer(b)
		return nil, err
	}
	if b.Len() <= largeAnswer {
		return b, nil
	}
	size := 2 * int64(b.Cap())
	if give := h.answers.try(size); give != nil {
		hold(w, give)
		return b, nil
	}
	b = nil
	give, err := h.answers.take(q.Context(), size)
	if err != nil {
		return nil, err
	}
	hold(w, give)
	b = new(bytes.Buffer)
	return b, encode(b)
}

// whole leaves a list in one piece.
func whole(*bytes.Buffer) error { return nil }

// patiently is a writer for what an answer says.
func patiently(w http.ResponseWriter) io.Writer {
	if s, ok := w.(*statusWriter); ok && s.h != nil {
		return patient{s.h, s}
	}
	return w
}

// patient writes what a client has asked for, as long as it takes it.
type patient struct {
	h *Handler
	w http.ResponseWriter
}

// Write implements io.Writer.
func (p patient) Write(data []byte) (n int, err error) {
	if len(data) <= largeAnswer {
		defer p.h.patience.forAnswer(p.w)()
		return p.w.Write(data)
	}
	control := http.NewResponseController(p.w)
	for n < len(data) && err == nil {
		_ = control.SetWriteDeadline(time.Now().Add(largePatience)) // as good as the connection allows
		var part int
		part, err = p.w.Write(data[n:min(n+largeAnswer, len(data))])
		n += part
	}
	if err == nil {
		_ = control.SetWriteDeadline(time.Time{})
	}
	return n, err
}

// errLarge says that a list does not fit into one buffer.
var errLarge = errors.New("large list")

// streamOf is what a list that is sent in parts takes: an object, a few times.
const streamOf = 8 << 20

// streamList sends a list of objects as they are stored, as one piece where it is
// small and else object by object: a list can be larger than the memory.
func (h *Handler) streamList(w http.ResponseWriter, q *request, f form, meta metav1.ListMeta, items []kind.Object) error {
	b := takeBuffer()
	err := h.encodings.appendList(b, q.res, meta, items, f, func(b *bytes.Buffer) error {
		if b.Len() > largeAnswer {
			return errLarge
		}
		return nil
	})
	if err == nil {
		defer giveBuffer(b)
		if err := finish(b, f); err != nil {
			return err
		}
		write(w, q.Request, http.StatusOK, f, b)
		return nil
	}
	giveBuffer(b)
	if !errors.Is(err, errLarge) {
		return err
	}
	give, err := h.answers.take(q.Context(), streamOf)
	if err != nil {
		return err
	}
	hold(w, give)
	h.sendParts(w, q, f, meta, items)
	return nil
}

// sendParts is streamList for a large list.
func (h *Handler) sendParts(w http.ResponseWriter, q *request, f form, meta metav1.ListMeta, items []kind.Object) {
	h.inParts(w, q, f, func(b *bytes.Buffer, send func(*bytes.Buffer) error) error {
		if err := h.encodings.appendList(b, q.res, meta, items, f, send); err != nil {
			return err
		}
		return finish(b, f)
	})
}

// busy waits for a core that may be kept busy. The function, never nil, gives it back.
func (h *Handler) busy(q *request) (idle func(), err error) {
	if err := h.cores.places.Acquire(q.Context(), 1); err != nil {
		return func() {}, err
	}
	return func() { h.cores.places.Release(1) }, nil
}

// inParts sends an answer whose parts are given to send as they become ready.
func (h *Handler) inParts(w http.ResponseWriter, q *request, f form, encode func(b *bytes.Buffer, send func(*bytes.Buffer) error) error) {
	header := w.Header()
	header["Content-Type"], header["Cache-Control"] = []string{f.contentType(false)}, noCache
	var out io.Writer = patient{h, w}
	var z *gzip.Writer
	if q.Method == http.MethodGet && acceptsGzip(q.Request) {
		header["Content-Encoding"], header["Vary"] = []string{"gzip"}, []string{"Accept-Encoding"}
		z = compressors.Get().(*gzip.Writer)
		defer compressors.Put(z)
		z.Reset(out)
		out = z
	}
	w.WriteHeader(http.StatusOK)
	b := new(bytes.Buffer)
	busy, err := h.busy(q)
	if err == nil {
		err = encode(b, func(b *bytes.Buffer) error {
			if b.Len() <= largeAnswer/4 {
				return nil
			}
			busy() // no client keeps a core waiting
			_, err := out.Write(b.Bytes())
			b.Reset()
			if busy = func() {}; err == nil {
				busy, err = h.busy(q)
			}
			return err
		})
		busy()
	}
	if err == nil {
		_, err = out.Write(b.Bytes())
	}
	if z != nil && err == nil {
		err = z.Close()
	}
	if err != nil {
		panic(http.ErrAbortHandler) // the client must see that the list is cut short
	}
}
