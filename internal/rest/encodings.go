package rest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/skiff-sh/skiff/internal/kind"
)

// encodingBytes bounds what the encodings of a server take.
const encodingBytes = 8 << 20

// encodings remembers the encoded form of objects, so that a write that a
// thousand watchers see, or an object that everybody gets, is encoded once.
// Objects are constants, so their address and media type say it all; the
// address cannot be reused while the entry holds the object.
type encodings struct {
	seed   maphash.Seed
	shards [16]encodingShard
	limit  int // bytes per shard

	anyLarge atomic.Bool // spares looking for what is rare
	mu       sync.Mutex  // guards large
	// large are the last objects that are too large for a shard: who watches them
	// asks for the same one within moments.
	large [largeEncodings]largeEncoding
}

// largeEncodings is how many large objects are remembered.
const largeEncodings = 4

type largeEncoding struct {
	key encodingKey
	*encoding
}

// remembered finds a large object, or gives it a place.
func (e *encodings) remembered(key encodingKey, entry *encoding) *encoding {
	if entry == nil && !e.anyLarge.Load() {
		return nil
	}
	e.anyLarge.Store(true)
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, l := range e.large {
		if l.encoding != nil && l.key == key {
			return l.encoding
		}
	}
	if entry != nil {
		copy(e.large[1:], e.large[:])
		e.large[0] = largeEncoding{key, entry}
	}
	return entry
}

type encodingShard struct {
	mu      sync.Mutex
	entries map[encodingKey]*encoding
	bytes   int
}

type encodingKey struct {
	object   kind.Object
	face     *kind.Face
	protobuf bool
}

// encoding is an object in bytes, without its type: JSON with no kind and
// apiVersion, or the bare protobuf message.
type encoding struct {
	once sync.Once
	data []byte
	err  error
	cost int // bytes accounted for; 0 until encoded; guarded by the shard's lock
}

func newEncodings(limit int) *encodings {
	e := &encodings{seed: maphash.MakeSeed(), limit: limit / 16}
	for i := range e.shards {
		e.shards[i].entries = map[encodingKey]*encoding{}
	}
	return e
}

// bare returns the object's encoding without its type, in the resource's own
// version. With remember it is kept for the next one who asks.
func (e *encodings) bare(r *resource, obj kind.Object, m media, remember bool) ([]byte, error) {
	key := encodingKey{obj, r.face, m == mediaProtobuf}
	shard := &e.shards[maphash.Comparable(e.seed, obj)&15]
	shard.mu.Lock()
	entry := shard.entries[key]
	if entry == nil {
		if large := e.remembered(key, nil); large != nil {
			shard.mu.Unlock()
			return large.data, large.err
		}
		if !remember {
			shard.mu.Unlock()
			return bareEncoding(r.served(obj), m)
		}
		entry = &encoding{}
		shard.entries[key] = entry
	}
	shard.mu.Unlock()
	entry.once.Do(func() {
		entry.data, entry.err = bareEncoding(r.served(obj), m)
		if !shard.account(key, entry, e.limit) {
			e.remembered(key, entry)
		}
	})
	return entry.data, entry.err
}

// account adds a finished entry to the shard's size and drops others, in the
// map's random order, until it fits again. False says that it never will.
func (s *encodingShard) account(key encodingKey, entry *encoding, limit int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(entry.data) > limit/4 {
		delete(s.entries, key)
		return false
	}
	// Its bytes, the key and the object, about three times its encoding.
	entry.cost = 4*len(entry.data) + 128
	s.bytes += entry.cost
	for k, other := range s.entries {
		if s.bytes <= limit {
			return true
		}
		if other != entry && other.cost > 0 {
			delete(s.entries, k)
			s.bytes -= other.cost
		}
	}
	return true
}

// protobufMessage is what generated API types offer.
type protobufMessage interface {
	Marshal() ([]byte, error)
}

// bareEncoding encodes an object without its type.
func bareEncoding(obj any, m media) ([]byte, error) {
	if m == mediaProtobuf {
		message, ok := obj.(protobufMessage)
		if !ok {
			return nil, notAcceptable()
		}
		return message.Marshal()
	}
	data, err := json.Marshal(obj)
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", obj, err)
	}
	return withoutType(data), nil
}

// withoutType removes a leading kind and apiVersion, which objects that came
// from a client may still carry.
func withoutType(data []byte) []byte {
	for _, field := range [][]byte{[]byte(`{"kind":"`), []byte(`{"apiVersion":"`)} {
		if !bytes.HasPrefix(data, field) {
			continue
		}
		end := bytes.IndexByte(data[len(field):], '"') + len(field) + 1
		if data[end] == '}' {
			return []byte("{}")
		}
		data = data[end:] // the comma's place takes the brace
		data[0] = '{'
	}
	return data
}

// protobufMagic begins every protobuf body of the Kubernetes API.
var protobufMagic = []byte{'k', '8', 's', 0}

// appendEnvelope appends the runtime.Unknown that wraps a message: its type in
// field 1 (apiVersion 1, kind 2), the message in field 2, and the empty content
// encoding and type that upstream writes in 3 and 4.
func appendEnvelope(b []byte, gvk schema.GroupVersionKind, message []byte) []byte {
	return append(append(appendEnvelopeHead(b, gvk, len(message)), message...), envelopeEnd...)
}

// envelopeEnd is what follows the message.
var envelopeEnd = []byte{0x1a, 0, 0x22, 0}

// appendEnvelopeHead appends what goes before a message of the length.
func appendEnvelopeHead(b []byte, gvk schema.GroupVersionKind, length int) []byte {
	gv := gvk.GroupVersion().String()
	typeMeta := 2 + len(gv) + 2 + len(gvk.Kind)
	b = append(b, protobufMagic...)
	b = append(b, 0x0a)
	b = appendVarint(b, typeMeta)
	b = append(b, 0x0a)
	b = appendVarint(b, len(gv))
	b = append(b, gv...)
	b = append(b, 0x12)
	b = appendVarint(b, len(gvk.Kind))
	b = append(b, gvk.Kind...)
	return appendVarint(append(b, 0x12), length)
}

// appendMessage appends a length-delimited field.
func appendMessage(b []byte, tag byte, message []byte) []byte {
	b = append(b, tag)
	b = appendVarint(b, len(message))
	return append(b, message...)
}

func appendVarint(b []byte, n int) []byte {
	for n >= 0x80 {
		b = append(b, byte(n)|0x80)
		n >>= 7
	}
	return append(b, byte(n))
}
