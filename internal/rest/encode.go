package rest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"github.com/skiff-sh/skiff/internal/kind"
)

// gzipAbove is the size from which answers are compressed for those who accept
// it, upstream's.
const gzipAbove = 128 << 10

// maxPooledBuffer keeps a single huge list from staying in memory for good.
const maxPooledBuffer = 1 << 20

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

func takeBuffer() *bytes.Buffer { return buffers.Get().(*bytes.Buffer) }

func giveBuffer(b *bytes.Buffer) {
	if b.Cap() <= maxPooledBuffer {
		b.Reset()
		buffers.Put(b)
	}
}

var compressors = sync.Pool{New: func() any {
	w, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed) // errs on unknown levels only
	return w
}}

// appendObject writes a stored object in the resource's version and the form's
// media type, complete with its type.
func (e *encodings) appendObject(b *bytes.Buffer, res *resource, obj kind.Object, f form, remember bool) error {
	data, err := e.bare(res, obj, f.media, remember)
	if err != nil {
		return err
	}
	if f.media == mediaProtobuf {
		b.Write(appendEnvelope(b.AvailableBuffer(), res.gvk, data))
		return nil
	}
	b.Write(res.jsonType)
	b.Write(data[1:])
	return nil
}

// appendAny writes an object that is not a stored one: a Status, a Scale, a
// Table. The object is encoded as being of the given type.
func appendAny(b *bytes.Buffer, obj runtime.Object, gvk schema.GroupVersionKind, m media) error {
	data, err := bareEncoding(obj, m)
	if err != nil {
		return err
	}
	if m == mediaProtobuf {
		b.Write(appendEnvelope(b.AvailableBuffer(), gvk, data))
		return nil
	}
	b.Write(typePrefix(gvk))
	if len(data) == 2 { // {}
		b.Truncate(b.Len() - 1)
	}
	b.Write(data[1:])
	return nil
}

// appendList writes a list of stored objects. After each, part is called, which may
// take what there is so far.
func (e *encodings) appendList(b *bytes.Buffer, res *resource, meta metav1.ListMeta, items []kind.Object, f form, part func(*bytes.Buffer) error) error {
	if f.media == mediaProtobuf {
		return e.appendProtobufList(b, res, meta, items, part)
	}
	head, err := json.Marshal(meta)
	if err != nil {
		return fmt.Errorf("encode list metadata: %w", err)
	}
	b.Write(res.jsonListType)
	b.WriteString(`"metadata":`)
	b.Write(head)
	b.WriteString(`,"items":[`)
	for i, item := range items {
		data, err := e.bare(res, item, mediaJSON, false)
		if err != nil {
			return err
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(data)
		if err := part(b); err != nil {
			return err
		}
	}
	b.WriteString("]}")
	return nil
}

// appendProtobufList relies on what all lists of the API have in common:
// metadata is field 1 and items are field 2.
func (e *encodings) appendProtobufList(b *bytes.Buffer, res *resource, meta metav1.ListMeta, items []kind.Object, part func(*bytes.Buffer) error) error {
	head, err := meta.Marshal()
	if err != nil {
		return fmt.Errorf("encode list metadata: %w", err)
	}
	message := appendMessage(nil, 0x0a, head)
	for i, item := range items {
		data, err := e.bare(res, item, mediaProtobuf, false)
		if err != nil {
			return err
		}
		message = appendMessage(message, 0x12, data)
		if len(message) > largeAnswer {
			return e.appendLongList(b, res, message, items[i+1:], part)
		}
	}
	b.Write(appendEnvelope(b.AvailableBuffer(), res.listGVK(), message))
	return nil
}

// appendLongList goes on with a list of which all that is said before the rest is
// encoded: its length comes first, so that of the rest is counted before.
func (e *encodings) appendLongList(b *bytes.Buffer, res *resource, message []byte, rest []kind.Object, part func(*bytes.Buffer) error) error {
	length := len(message)
	for _, item := range rest {
		sized, ok := any(res.served(item)).(interface{ Size() int })
		if !ok {
			return notAcceptable()
		}
		size := sized.Size()
		length += 1 + varintLen(size) + size
	}
	b.Write(appendEnvelopeHead(b.AvailableBuffer(), res.listGVK(), length))
	b.Write(message)
	for _, item := range rest {
		if err := part(b); err != nil {
			return err
		}
		data, err := e.bare(res, item, mediaProtobuf, false)
		if err != nil {
			return err
		}
		length -= 1 + varintLen(len(data)) + len(data)
		b.Write(appendVarint(append(b.AvailableBuffer(), 0x12), len(data)))
		b.Write(data)
	}
	if length != len(message) {
		return fmt.Errorf("encode %s: %d bytes beside what was counted", res.listGVK().Kind, length-len(message))
	}
	b.Write(envelopeEnd)
	return part(b)
}

// finish turns JSON into what the form asks for beyond it.
func finish(b *bytes.Buffer, f form) error {
	switch {
	case f.media == mediaYAML:
		data, err := yaml.JSONToYAML(b.Bytes())
		if err != nil {
			return fmt.Errorf("encode as YAML: %w", err)
		}
		b.Reset()
		b.Write(data)
	case f.media == mediaJSON && f.pretty:
		data := bytes.Clone(b.Bytes())
		b.Reset()
		return json.Indent(b, data, "", "  ")
	case f.media == mediaJSON:
		b.WriteByte('\n')
	}
	return nil
}

// write sends an encoded answer.
func write(w http.ResponseWriter, r *http.Request, code int, f form, b *bytes.Buffer) {
	w.Header()["Content-Type"] = []string{f.contentType(false)}
	writeTyped(w, r, code, b)
}

// writeTyped is write for an answer whose Content-Type is set.
func writeTyped(w http.ResponseWriter, r *http.Request, code int, b *bytes.Buffer) {
	writeCached(w, r, code, b, noCache)
}

// writeCached is writeTyped with a Cache-Control of the caller's.
func writeCached(w http.ResponseWriter, r *http.Request, code int, b *bytes.Buffer, cache []string) {
	header := w.Header()
	header["Cache-Control"] = cache
	if b.Len() > gzipAbove && acceptsGzip(r) {
		header["Content-Encoding"] = []string{"gzip"}
		header["Vary"] = append(header["Vary"], "Accept-Encoding") // who caches an answer looks at all of them
		w.WriteHeader(code)
		z := compressors.Get().(*gzip.Writer)
		z.Reset(patiently(w))
		_, _ = z.Write(b.Bytes()) // a client that went away cannot be told
		_ = z.Close()
		compressors.Put(z)
		return
	}
	header["Content-Length"] = []string{strconv.Itoa(b.Len())}
	w.WriteHeader(code)
	_, _ = patiently(w).Write(b.Bytes())
}

var noCache = []string{"no-cache, private"}

func acceptsGzip(r *http.Request) bool {
	for _, value := range r.Header["Accept-Encoding"] {
		if strings.Contains(value, "gzip") {
			return true
		}
	}
	return false
}

// writeAny answers with an object that is not a stored one.
func (h *Handler) writeAny(w http.ResponseWriter, r *http.Request, code int, obj runtime.Object, gvk schema.GroupVersionKind) {
	f, err := h.negotiate(r, false, false)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	b := takeBuffer()
	defer giveBuffer(b)
	err = appendAny(b, obj, gvk, f.media)
	if err == nil {
		err = finish(b, f)
	}
	if err != nil {
		h.fail(w, r, err)
		return
	}
	write(w, r, code, f, b)
}
