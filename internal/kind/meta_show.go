package kind

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// untagged shows a structure in an error as upstream does, whose validation
// sees types of its own that have no JSON names: every field, by its Go name.
type untagged struct{ value any }

func (u untagged) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	err := writeUntagged(&b, reflect.ValueOf(u.value))
	return b.Bytes(), err
}

// String is what errors of other kinds of readers show.
func (u untagged) String() string { return fmt.Sprintf("%+v", u.value) }

func writeUntagged(b *bytes.Buffer, v reflect.Value) error {
	if !v.IsValid() || isNilable(v.Kind()) && v.IsNil() {
		b.WriteString("null")
		return nil
	}
	if _, ok := v.Interface().(json.Marshaler); ok || isShared(v.Type()) {
		return writeJSON(b, v)
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		return writeUntagged(b, v.Elem())
	case reflect.Struct:
		b.WriteByte('{')
		if err := writeFields(b, v, true); err != nil {
			return err
		}
		b.WriteByte('}')
	case reflect.Slice:
		return writeList(b, v)
	case reflect.Map:
		return writeMap(b, v)
	default:
		return writeJSON(b, v)
	}
	return nil
}

// writeFields writes the members of a structure, those of embedded ones with it.
func writeFields(b *bytes.Buffer, v reflect.Value, first bool) error {
	for _, f := range shownFields(v) {
		if f.embedded {
			start := b.Len()
			if err := writeEmbedded(b, f.value, first); err != nil {
				return err
			}
			first = first && b.Len() == start
			continue
		}
		if !first {
			b.WriteByte(',')
		}
		first = false
		fmt.Fprintf(b, "%q:", f.name)
		if err := writeUntagged(b, f.value); err != nil {
			return err
		}
	}
	return nil
}

// isShared reports whether upstream's validation sees the same structure as
// clients do.
func isShared(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && strings.HasPrefix(t.PkgPath(), "k8s.io/apimachinery/")
}

func writeEmbedded(b *bytes.Buffer, v reflect.Value, first bool) error {
	if !isShared(v.Type()) {
		return writeFields(b, v, first)
	}
	text, err := json.Marshal(v.Interface())
	if err != nil || len(text) <= len("{}") {
		return err
	}
	if !first {
		b.WriteByte(',')
	}
	b.Write(text[1 : len(text)-1])
	return nil
}

func writeList(b *bytes.Buffer, v reflect.Value) error {
	if v.Type().Elem().Kind() == reflect.Uint8 {
		return writeJSON(b, v)
	}
	b.WriteByte('[')
	for i := range v.Len() {
		if i > 0 {
			b.WriteByte(',')
		}
		if err := writeUntagged(b, v.Index(i)); err != nil {
			return err
		}
	}
	b.WriteByte(']')
	return nil
}

func writeMap(b *bytes.Buffer, v reflect.Value) error {
	values := map[string]reflect.Value{}
	for _, key := range v.MapKeys() {
		values[key.String()] = v.MapIndex(key)
	}
	b.WriteByte('{')
	for i, key := range slices.Sorted(maps.Keys(values)) {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(b, "%q:", key)
		if err := writeUntagged(b, values[key]); err != nil {
			return err
		}
	}
	b.WriteByte('}')
	return nil
}

func writeJSON(b *bytes.Buffer, v reflect.Value) error {
	text, err := json.Marshal(v.Interface())
	b.Write(text)
	return err
}

func isNilable(k reflect.Kind) bool {
	return k == reflect.Pointer || k == reflect.Interface || k == reflect.Map || k == reflect.Slice
}

// message is a structure that the store of upstream keeps.
type message[T any] interface {
	*T
	Marshal() ([]byte, error)
	Unmarshal([]byte) error
}

// asStored returns what upstream reads of a structure from its store, where lists and
// maps without elements do not exist.
func asStored[T any, M message[T]](is M) M {
	was := M(new(T))
	text, err := is.Marshal()
	if err == nil {
		err = was.Unmarshal(text)
	}
	if err != nil {
		return is
	}
	return was
}

// internalText is what an error of reading JSON says of upstream's internal types: they
// are of a package core, and their fields have no names but Go's.
func internalText(err error) string {
	var wrong *json.UnmarshalTypeError
	if !errors.As(err, &wrong) {
		return err.Error()
	}
	if of := wrong.Field; of != "" {
		wrong.Field = strings.ToUpper(of[:1]) + of[1:]
	}
	return strings.ReplaceAll(wrong.Error(), "v1.", "core.")
}
