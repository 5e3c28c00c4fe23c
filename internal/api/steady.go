package api

import (
	"reflect"
	"slices"
	"strings"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/typed"

	"github.com/skiff-sh/skiff/internal/kind"
)

// Most updates change a few values of fields that their sender owns already, and
// nobody's ownership: then the record is what it was, but for a time. That is found
// out here for a third of what it costs to make the record anew, and whatever is not
// as simple as that is left to those who can tell.

// steady returns the record of such an update; ok is false for all others.
func (m *managers) steady(req *Request, obj, old kind.Object) (record []metav1.ManagedFieldsEntry, ok bool) {
	entries := old.GetManagedFields()
	if req.Face != nil || old.GetUID() == "" || len(entries) == 0 {
		return nil, false
	}
	// What a client says of managers is taken for the record, except through a
	// subresource: an empty list too, which is to forget them all.
	if sent := obj.GetManagedFields(); req.Subresource == "" && sent != nil && !sameRecord(sent, entries) {
		return nil, false
	}
	paths, ok := m.sets.changedValues(old, obj)
	if !ok {
		return nil, false
	}
	if filter := ignored(req.Kind, req.Subresource); filter != nil {
		changed := fieldpath.NewSet(paths...)
		if !filter.Filter(changed).Equals(changed) {
			return nil, false
		}
	}
	self, ok := m.soleOwner(req, old, entries, paths)
	if !ok {
		return nil, false
	}
	record = slices.Clone(entries)
	if len(paths) > 0 {
		now := kind.Timestamp(metav1.Now().Time)
		record[self].Time = &now
		slices.SortFunc(record, compareEntries)
	}
	return record, true
}

// soleOwner returns which entry is that of the request's sender; ok is false where
// somebody else owns one of the fields, or the sender does not.
func (m *managers) soleOwner(req *Request, old kind.Object, entries []metav1.ManagedFieldsEntry, paths []fieldpath.Path) (self int, ok bool) {
	version, self := req.version().String(), -1
	for i := range entries {
		e := &entries[i]
		set := m.owned(req.Kind, old, e)
		if set == nil || e.APIVersion != version {
			return 0, false
		}
		mine := e.Operation == metav1.ManagedFieldsOperationUpdate && e.Subresource == req.Subresource &&
			e.Manager == req.FieldManager && e.Manager != ""
		if mine {
			self = i
		}
		for _, path := range paths {
			if set.Has(path) != mine {
				return 0, false
			}
		}
	}
	return self, self >= 0
}

// compareEntries is the order of a record.
func compareEntries(a, b metav1.ManagedFieldsEntry) int {
	seconds := func(e metav1.ManagedFieldsEntry) int64 {
		if e.Time == nil {
			return 0
		}
		return e.Time.Unix()
	}
	if c := strings.Compare(string(a.Operation), string(b.Operation)); c != 0 {
		return c
	}
	if d := seconds(a) - seconds(b); d != 0 {
		return int(max(-1, min(1, d)))
	}
	if c := strings.Compare(a.Manager, b.Manager); c != 0 {
		return c
	}
	if c := strings.Compare(a.APIVersion, b.APIVersion); c != 0 {
		return c
	}
	return strings.Compare(a.Subresource, b.Subresource)
}

// sameRecord compares records as they are, byte by byte.
func sameRecord(a, b []metav1.ManagedFieldsEntry) bool {
	return slices.EqualFunc(a, b, func(x, y metav1.ManagedFieldsEntry) bool {
		return x.Manager == y.Manager && x.Operation == y.Operation && x.APIVersion == y.APIVersion && x.Subresource == y.Subresource &&
			x.FieldsType == y.FieldsType && x.Time.Equal(y.Time) && x.FieldsV1 != nil && y.FieldsV1 != nil && x.FieldsV1.Equal(*y.FieldsV1)
	})
}

// ownedSets remembers what entries of records say: objects of one kind that one
// manager made mostly have the same fields.
type ownedSets struct {
	structs sync.Map // reflect.Type → []ownableField

	mu    sync.Mutex // guards known
	known map[ownedKey]*fieldpath.Set
}

type ownedKey struct {
	kind   *kind.Kind
	fields string
}

// The bounds of ownedSets.
const (
	maxOwnedSets  = 128
	maxOwnedBytes = 2 << 10
)

// owned returns the fields of an entry, nil where it is not worth the trouble or
// where they are not what the kind has now. The set is constant.
func (m *managers) owned(k *kind.Kind, of kind.Object, e *metav1.ManagedFieldsEntry) *fieldpath.Set {
	if e.FieldsType != "FieldsV1" || e.FieldsV1 == nil {
		return nil
	}
	key := ownedKey{k, e.FieldsV1.GetRawString()}
	if len(key.fields) > maxOwnedBytes {
		return nil
	}
	m.sets.mu.Lock()
	set, ok := m.sets.known[key]
	m.sets.mu.Unlock()
	if ok {
		return set
	}
	set = m.readOwned(of, key.fields)
	m.sets.mu.Lock()
	defer m.sets.mu.Unlock()
	if m.sets.known == nil {
		m.sets.known = map[ownedKey]*fieldpath.Set{}
	}
	for other := range m.sets.known { // any one has to go
		if len(m.sets.known) < maxOwnedSets {
			break
		}
		delete(m.sets.known, other)
	}
	m.sets.known[key] = set
	return set
}

func (m *managers) readOwned(of kind.Object, fields string) *fieldpath.Set {
	set := &fieldpath.Set{}
	if set.FromJSON(strings.NewReader(fields)) != nil {
		return nil
	}
	like, err := m.types.Typed(of)
	if err != nil {
		return nil
	}
	if other, err := typed.ReconcileFieldSetWithSchema(set, like); err != nil || other != nil {
		return nil
	}
	return set
}

// maxChangedValues is how many values may differ in an update that is looked at.
const maxChangedValues = 16

// changedValues returns the values in which objects of one type differ, beside what
// nobody owns. ok is false where they differ in anything else: what is there at all,
// or the items of a list.
func (s *ownedSets) changedValues(old, obj kind.Object) (paths []fieldpath.Path, ok bool) {
	a, b := reflect.ValueOf(old).Elem(), reflect.ValueOf(obj).Elem()
	if a.Type() != b.Type() {
		return nil, false
	}
	d := &difference{sets: s}
	ok = d.structs(a, b) && len(d.paths) <= maxChangedValues
	return d.paths, ok
}

// difference walks through two values of one type side by side.
type difference struct {
	sets  *ownedSets
	at    fieldpath.Path
	paths []fieldpath.Path
}

// differ notes that the value that the walk has come to is not the same.
func (d *difference) differ() { d.paths = append(d.paths, d.at.Copy()) }

func (d *difference) structs(a, b reflect.Value) bool {
	for _, f := range d.sets.ownableFields(a.Type()) {
		x, y := a.Field(f.index), b.Field(f.index)
		if f.name == nil {
			if !d.structs(x, y) {
				return false
			}
			continue
		}
		if d.inMetadata() && slices.Contains(nobodys, *f.name) {
			continue
		}
		d.at = append(d.at, fieldpath.PathElement{FieldName: f.name})
		same := d.values(x, y, false)
		d.at = d.at[:len(d.at)-1]
		if !same {
			return false
		}
	}
	return true
}

// inMetadata reports whether the walk is in the object's own metadata: that of a
// template has owners for all it says.
func (d *difference) inMetadata() bool { return len(d.at) == 1 && *d.at[0].FieldName == "metadata" }

// values compares two values. pointed says that a pointer tells whether there is one:
// else zero may stand for none.
func (d *difference) values(a, b reflect.Value, pointed bool) bool {
	switch a.Kind() {
	case reflect.String, reflect.Bool, reflect.Int32, reflect.Int64:
		switch {
		case a.Equal(b):
		case !pointed && (a.IsZero() || b.IsZero()):
			return false
		default:
			d.differ()
		}
		return true
	case reflect.Pointer:
		if a.IsNil() || b.IsNil() {
			return a.IsNil() && b.IsNil()
		}
		return d.values(a.Elem(), b.Elem(), true)
	case reflect.Map:
		if x, ok := a.Interface().(map[string]string); ok {
			return d.maps(x, b.Interface().(map[string]string))
		}
	case reflect.Struct:
		if !reflect.PointerTo(a.Type()).Implements(jsonMarshaler) {
			return d.structs(a, b)
		}
	}
	return reflect.DeepEqual(a.Interface(), b.Interface())
}

var jsonMarshaler = reflect.TypeFor[interface{ MarshalJSON() ([]byte, error) }]()

func (d *difference) maps(a, b map[string]string) bool {
	if len(a) != len(b) || (a == nil) != (b == nil) {
		return false
	}
	for key, x := range a {
		y, ok := b[key]
		if !ok {
			return false
		}
		if x != y {
			d.at = append(d.at, fieldpath.PathElement{FieldName: &key})
			d.differ()
			d.at = d.at[:len(d.at)-1]
		}
	}
	return true
}

// ownableField is a field of a struct as its JSON has it; without a name it is a
// struct whose fields count as the outer one's.
type ownableField struct {
	index int
	name  *string
}

// ownableFields returns the fields of a struct that managers can own.
func (s *ownedSets) ownableFields(of reflect.Type) []ownableField {
	if known, ok := s.structs.Load(of); ok {
		return known.([]ownableField)
	}
	var all []ownableField
	for i := range of.NumField() {
		f := of.Field(i)
		name, flags, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Type == reflect.TypeFor[metav1.TypeMeta](), name == "-", !f.IsExported():
		case strings.Contains(flags, "inline") || f.Anonymous && name == "":
			all = append(all, ownableField{index: i})
		default:
			all = append(all, ownableField{i, &name})
		}
	}
	s.structs.Store(of, all)
	return all
}

// nobodys are the fields of an object's own metadata that nobody owns.
var nobodys = []string{
	"name", "namespace", "creationTimestamp", "selfLink", "uid", "generation", "managedFields", "resourceVersion",
}
