package openapi

import (
	"fmt"
	"math"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// protobuf encodes the document as gnostic does: in its own messages, that name
// every key of the format.
func (d *document) protobuf() ([]byte, error) {
	l := newLayouts()
	root, schemas := l.v3, l.v3.fields["components"].of.fields["schemas"]
	if d.components == nil {
		root, schemas = l.v2, l.v2.fields["definitions"]
	}
	encode := func(of *message) func(part, map[string]any) []byte {
		return func(p part, value map[string]any) []byte { return of.named(p.name, value) }
	}
	paths, err := rewritten(d.paths, encode(root.fields["paths"].of))
	if err != nil {
		return nil, err
	}
	all, err := rewritten(d.schemas, encode(schemas.of))
	if err != nil {
		return nil, err
	}
	out := appendBytes(root.encode(d.head), root.fields["paths"].number, joined(paths))
	if d.components == nil {
		return appendBytes(out, schemas.number, joined(all)), nil
	}
	components := root.fields["components"]
	inner := appendBytes(components.of.encode(d.components), schemas.number, joined(all))
	return appendBytes(out, components.number, inner), nil
}

func joined(parts []part) []byte {
	var all []byte
	for _, p := range parts {
		all = append(all, p.data...)
	}
	return all
}

// message is how a value is laid out in protobuf.
type message struct {
	fields map[string]field
	// rest is what holds the other keys: messages of a name (1) and a value (2).
	// Its own number is theirs in this message.
	rest *field
	// extensions is the number of the fields for keys that begin with x-.
	extensions protowire.Number
	// choose, where there is one, gives the only field: the value itself is in it.
	choose func(value any) field
}

// field is one field of a message.
type field struct {
	number protowire.Number
	is     fieldType
	of     *message // of one and many
}

type fieldType uint8

const (
	text      fieldType = iota
	texts               // strings
	flag                // bool
	whole               // int64
	real                // double
	anything            // Any: a value as text
	anythings           // repeated Any
	one                 // a message
	many                // messages
)

// encode encodes what a message holds.
func (m *message) encode(value any) []byte {
	if m.choose != nil {
		return m.choose(value).append(nil, value)
	}
	object, _ := value.(map[string]any)
	var b []byte
	for key, v := range sorted(object) {
		f, known := m.fields[key]
		switch {
		case known:
			b = f.append(b, v)
		case m.extensions != 0 && strings.HasPrefix(key, "x-"):
			entry := appendText(nil, 1, key)
			b = appendBytes(b, m.extensions, field{number: 2, is: anything}.append(entry, v))
		default:
			b = append(b, m.named(key, v)...)
		}
	}
	return b
}

// named encodes an entry of a message whose keys are names.
func (m *message) named(name string, value any) []byte {
	if m.rest == nil {
		panic(fmt.Sprintf("no field for %q: add it to the layouts", name)) // the build's own test would tell
	}
	entry := appendText(nil, 1, name)
	return appendBytes(nil, m.rest.number, field{number: 2, is: m.rest.is, of: m.rest.of}.append(entry, value))
}

// append appends the field with a value of JSON; a value that the field cannot
// have is left out, as gnostic does.
func (f field) append(b []byte, value any) []byte {
	switch v := value.(type) {
	case string:
		if f.is == text {
			return appendText(b, f.number, v)
		}
	case bool:
		if f.is == flag {
			return protowire.AppendVarint(protowire.AppendTag(b, f.number, protowire.VarintType), protowire.EncodeBool(v))
		}
	case float64:
		switch f.is {
		case whole:
			return protowire.AppendVarint(protowire.AppendTag(b, f.number, protowire.VarintType), uint64(int64(v)))
		case real:
			return protowire.AppendFixed64(protowire.AppendTag(b, f.number, protowire.Fixed64Type), math.Float64bits(v))
		}
	case []any:
		if single, ok := singles[f.is]; ok {
			for _, item := range v {
				b = field{f.number, single, f.of}.append(b, item)
			}
			return b
		}
	}
	switch f.is {
	case one:
		return appendBytes(b, f.number, f.of.encode(value))
	case anything: // JSON is YAML
		return appendBytes(b, f.number, appendText(nil, 2, string(appendJSON(nil, value))+"\n"))
	}
	return b
}

// singles are the types of which a field has several.
var singles = map[fieldType]fieldType{texts: text, many: one, anythings: anything}

func appendText(b []byte, number protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, number, protowire.BytesType), s)
}

func appendBytes(b []byte, number protowire.Number, data []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, number, protowire.BytesType), data)
}
