package checkpoint

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// What a record holds, one after the other, in protobuf's form: what follows a
// collection is of it, and what follows a name is of that object.
const (
	fieldCluster    protowire.Number = 1 // whose word it is; first in a file
	fieldCollection protowire.Number = 2
	fieldAPIVersion protowire.Number = 3
	fieldKind       protowire.Number = 4
	fieldRevision   protowire.Number = 5 // the collection's
	fieldDrop       protowire.Number = 6 // all that is known of the collection so far
	fieldName       protowire.Number = 7
	fieldSum        protowire.Number = 8
	fieldCore       protowire.Number = 9
	fieldData       protowire.Number = 10 // makes an object of what is known by then
	fieldGone       protowire.Number = 11 // the object of that name
)

// recorder writes what a record holds.
type recorder struct {
	body   []byte
	placed []placed
}

// placed is an object and where in the body its data is.
type placed struct {
	object *object
	place
}

func (w *recorder) text(field protowire.Number, s string) {
	w.body = protowire.AppendTag(w.body, field, protowire.BytesType)
	w.body = protowire.AppendString(w.body, s)
}

func (w *recorder) number(field protowire.Number, n uint64) {
	w.body = protowire.AppendTag(w.body, field, protowire.Fixed64Type)
	w.body = protowire.AppendFixed64(w.body, n)
}

func (w *recorder) collection(q question, k *collection) {
	w.text(fieldCollection, string(q))
	w.text(fieldAPIVersion, k.apiVersion)
	w.text(fieldKind, k.kind)
	w.text(fieldRevision, k.revision)
}

func (w *recorder) object(name string, o *object, data []byte) {
	w.text(fieldName, name)
	w.number(fieldSum, o.sum)
	w.number(fieldCore, o.core)
	w.body = protowire.AppendTag(w.body, fieldData, protowire.BytesType)
	w.body = protowire.AppendBytes(w.body, data)
	w.placed = append(w.placed, placed{o, place{
		at: int64(len(w.body) - len(data)), size: len(data), check: checksum(data),
	}})
}

// reader takes up what records hold.
type reader struct {
	cluster string
	known   map[question]*collection

	greeted   bool
	at        question
	k         *collection
	name      string
	sum, core uint64
}

// otherCluster says that a file is not of this node in this cluster.
type otherCluster struct{}

func (otherCluster) Error() string { return "it is of another cluster or node" }

// take reads a record's body, which is at that place in the file.
func (r *reader) take(body []byte, at int64) error {
	for rest := body; len(rest) > 0; {
		field, kind, tag := protowire.ConsumeTag(rest)
		if tag < 0 {
			return fmt.Errorf("%w: %w", errDamaged, protowire.ParseError(tag))
		}
		value := protowire.ConsumeFieldValue(field, kind, rest[tag:])
		if value < 0 {
			return fmt.Errorf("%w: %w", errDamaged, protowire.ParseError(value))
		}
		var err error
		switch text := rest[tag : tag+value]; kind {
		case protowire.BytesType:
			b, _ := protowire.ConsumeBytes(text)
			end := len(body) - len(rest) + tag + value
			err = r.bytes(field, b, at+int64(end-len(b)))
		case protowire.Fixed64Type:
			n, _ := protowire.ConsumeFixed64(text)
			r.number(field, n)
		}
		if err != nil {
			return err
		}
		rest = rest[tag+value:]
	}
	return nil
}

func (r *reader) number(field protowire.Number, n uint64) {
	switch field {
	case fieldSum:
		r.sum = n
	case fieldCore:
		r.core = n
	}
}

func (r *reader) bytes(field protowire.Number, b []byte, at int64) error {
	if field == fieldCluster {
		r.greeted = true
		if string(b) != r.cluster {
			return otherCluster{}
		}
		return nil
	}
	if !r.greeted {
		return errDamaged
	}
	if field == fieldCollection {
		r.at = question(b)
		if r.k = r.known[r.at]; r.k == nil {
			r.k = &collection{objects: map[string]*object{}}
			r.known[r.at] = r.k
		}
		return nil
	}
	if r.k == nil {
		return errDamaged
	}
	switch field {
	case fieldAPIVersion:
		r.k.apiVersion = string(b)
	case fieldKind:
		r.k.kind = string(b)
	case fieldRevision:
		r.k.revision = string(b)
	case fieldDrop:
		delete(r.known, r.at)
		r.k = &collection{objects: map[string]*object{}} // what follows, if anything does, begins anew
	case fieldName:
		r.name = string(b)
	case fieldData:
		r.k.objects[r.name] = &object{sum: r.sum, core: r.core, place: place{at: at, size: len(b), check: checksum(b)}}
	case fieldGone:
		delete(r.k.objects, string(b))
	}
	return nil
}
