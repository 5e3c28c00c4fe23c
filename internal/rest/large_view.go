package rest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/skiff-sh/skiff/internal/kind"
)

// bulk is about how large a list is in a view that holds more than the objects, or is
// not sent as they are stored. It stops where that is large.
func bulk(items []kind.Object, f form, include metav1.IncludeObjectPolicy) (size int) {
	const row = 100
	whole := f.view == viewObject || f.view == viewTable && include == metav1.IncludeObject
	for _, obj := range items {
		if sized, ok := obj.(interface{ Size() int }); ok && whole {
			size += sized.Size()
		} else if sized, ok := obj.(metav1.ObjectMetaAccessor).GetObjectMeta().(*metav1.ObjectMeta); ok && include != metav1.IncludeNone {
			size += sized.Size()
		}
		if size += row; size > largeAnswer {
			return size
		}
	}
	return size
}

// sequence is a list in JSON whose items are encoded one by one.
type sequence struct {
	empty []byte // the list without items
	key   string // of the items
	n     int
	item  func(i int) ([]byte, error)
}

// streamView sends a large list in any view, as text.
func (h *Handler) streamView(w http.ResponseWriter, q *request, f form, meta metav1.ListMeta, items []kind.Object, include metav1.IncludeObjectPolicy) error {
	if f.view == viewPartial {
		return h.appendListView(nil, q.res, meta, items, f, include) // which refuses it
	}
	give, err := h.answers.take(q.Context(), streamOf)
	if err != nil {
		return err
	}
	hold(w, give)
	s, err := h.sequence(q.res, meta, items, f, include)
	if err != nil {
		return err
	}
	h.inParts(w, q, f, func(b *bytes.Buffer, send func(*bytes.Buffer) error) error {
		switch {
		case f.media == mediaYAML:
			return s.appendYAML(b, send)
		case f.pretty:
			return s.appendPretty(b, send)
		}
		return s.appendPlain(b, send)
	})
	return nil
}

// sequence prepares a list in the form's view.
func (h *Handler) sequence(res *resource, meta metav1.ListMeta, items []kind.Object, f form, include metav1.IncludeObjectPolicy) (sequence, error) {
	s := sequence{key: "items", n: len(items)}
	json1 := form{media: mediaJSON, view: f.view, v1beta: f.v1beta}
	switch f.view {
	case viewTable:
		tables := h.newTables(res, f, include)
		s.key = "rows"
		s.item = func(i int) ([]byte, error) {
			row, err := tables.rowOf(res.served(items[i]))
			if err != nil {
				return nil, err
			}
			return json.Marshal(row)
		}
	case viewPartialList:
		s.item = func(i int) ([]byte, error) { return json.Marshal(partialOf(items[i], f)) }
	default:
		s.item = func(i int) ([]byte, error) { return h.encodings.bare(res, items[i], mediaJSON, false) }
	}
	var b bytes.Buffer
	err := h.appendListView(&b, res, meta, nil, json1, include)
	s.empty = bytes.Replace(b.Bytes(), []byte(`"items":null`), []byte(`"items":[]`), 1)
	return s, err
}

// around returns what goes before and behind the items, which stand between two texts
// in the list without any.
func around(empty []byte, list string) (before, behind []byte, err error) {
	before, behind, ok := bytes.Cut(empty, []byte(list))
	if !ok {
		return nil, nil, fmt.Errorf("encode list: no %s in %.200s", list, empty)
	}
	return before, behind, nil
}

func (s sequence) appendPlain(b *bytes.Buffer, send func(*bytes.Buffer) error) error {
	list := `"` + s.key + `":[`
	before, behind, err := around(s.empty, list+"]")
	if err != nil {
		return err
	}
	b.Write(before)
	b.WriteString(list)
	err = s.each(b, send, func(i int, item []byte) error {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(item)
		return nil
	})
	b.WriteByte(']')
	b.Write(behind)
	b.WriteByte('\n')
	return err
}

// appendPretty indents as encoding/json does with the whole.
func (s sequence) appendPretty(b *bytes.Buffer, send func(*bytes.Buffer) error) error {
	var empty bytes.Buffer
	if err := json.Indent(&empty, s.empty, "", "  "); err != nil {
		return err
	}
	list := `"` + s.key + `": [`
	before, behind, err := around(empty.Bytes(), list+"]")
	if err != nil {
		return err
	}
	b.Write(before)
	b.WriteString(list)
	err = s.each(b, send, func(i int, item []byte) error {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString("\n    ")
		return json.Indent(b, item, "    ", "  ")
	})
	b.WriteString("\n  ]")
	b.Write(behind)
	return err
}

// appendYAML writes the items as YAML, each below a dash.
func (s sequence) appendYAML(b *bytes.Buffer, send func(*bytes.Buffer) error) error {
	empty, err := yaml.JSONToYAML(s.empty)
	if err != nil {
		return err
	}
	before, behind, err := around(empty, s.key+": []\n")
	if err != nil {
		return err
	}
	b.Write(before)
	b.WriteString(s.key + ":\n")
	err = s.each(b, send, func(_ int, item []byte) error {
		text, err := yaml.JSONToYAML(item)
		if err != nil {
			return err
		}
		dash := "- "
		for line := range bytes.Lines(text) {
			if len(line) > 1 { // an empty one is one in a text
				b.WriteString(dash)
			}
			b.Write(line)
			dash = "  "
		}
		return nil
	})
	b.Write(behind)
	return err
}

// each encodes the items one after the other.
func (s sequence) each(b *bytes.Buffer, send func(*bytes.Buffer) error, add func(i int, item []byte) error) error {
	for i := range s.n {
		item, err := s.item(i)
		if err == nil {
			err = add(i, item)
		}
		if err == nil {
			err = send(b)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
