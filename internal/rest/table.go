package rest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/skiff-sh/skiff/internal/api"
	"github.com/skiff-sh/skiff/internal/kind"
)

// defaultColumns are those of a kind that describes none.
var defaultColumns = []metav1.TableColumnDefinition{
	{Name: "Name", Type: "string", Format: "name", Description: metav1.ObjectMeta{}.SwaggerDoc()["name"]},
	{Name: "Created At", Type: "date", Description: metav1.ObjectMeta{}.SwaggerDoc()["creationTimestamp"]},
}

func defaultRow(obj kind.Object, _ time.Time) []any {
	return []any{obj.GetName(), obj.GetCreationTimestamp().UTC().Format(time.RFC3339)}
}

// tables makes the Tables of one answer or watch.
type tables struct {
	res     *resource
	form    form
	include metav1.IncludeObjectPolicy
	columns []metav1.TableColumnDefinition
	row     func(kind.Object, time.Time) []any
	now     time.Time
}

func (h *Handler) newTables(res *resource, f form, include metav1.IncludeObjectPolicy) *tables {
	t := &tables{res: res, form: f, include: include, now: h.Now()}
	t.columns, t.row = res.columns()
	return t
}

// table fills a Table with a row for each object. Without columns it is one of
// a watch's later events: upstream gives the columns in the first one only.
func (t *tables) table(meta metav1.ListMeta, columns bool, objects ...kind.Object) (*metav1.Table, error) {
	table := &metav1.Table{ListMeta: meta, Rows: make([]metav1.TableRow, 0, len(objects))}
	if columns {
		table.ColumnDefinitions = t.columns
	}
	for _, obj := range objects {
		row, err := t.rowOf(t.res.served(obj))
		if err != nil {
			return nil, err
		}
		table.Rows = append(table.Rows, row)
	}
	return table, nil
}

func (t *tables) rowOf(obj kind.Object) (metav1.TableRow, error) {
	row := metav1.TableRow{Cells: t.row(obj, t.now)}
	include := t.include
	if include == metav1.IncludeNone && obj.GetAnnotations()[metav1.InitialEventsAnnotationKey] != "" {
		include = metav1.IncludeMetadata // clients wait for that annotation
	}
	switch include {
	case metav1.IncludeNone:
		return row, nil
	case metav1.IncludeObject:
		data, err := bareEncoding(obj, mediaJSON)
		if err != nil {
			return row, err
		}
		row.Object.Raw = append(t.res.jsonType[:len(t.res.jsonType):len(t.res.jsonType)], data[1:]...)
	default:
		data, err := json.Marshal(partialOf(obj, t.form))
		if err != nil {
			return row, fmt.Errorf("encode metadata of %s: %w", obj.GetName(), err)
		}
		row.Object.Raw = data
	}
	return row, nil
}

// gvk is that of a Table or partial object in the form's version.
func (f form) gvk(kind string) schema.GroupVersionKind {
	gv, _ := schema.ParseGroupVersion(f.groupVersion()) // one of two constants
	return gv.WithKind(kind)
}

// partialOf returns an object's metadata alone.
func partialOf(obj kind.Object, f form) *metav1.PartialObjectMetadata {
	meta, ok := obj.(metav1.ObjectMetaAccessor).GetObjectMeta().(*metav1.ObjectMeta)
	if !ok {
		meta = &metav1.ObjectMeta{Name: obj.GetName(), Namespace: obj.GetNamespace(), UID: obj.GetUID(), ResourceVersion: obj.GetResourceVersion()}
	}
	return &metav1.PartialObjectMetadata{
		TypeMeta:   metav1.TypeMeta{APIVersion: f.groupVersion(), Kind: "PartialObjectMetadata"},
		ObjectMeta: *meta,
	}
}

// appendView writes one stored object in whatever view the form asks for.
func (h *Handler) appendView(b *bytes.Buffer, res *resource, obj kind.Object, f form, include metav1.IncludeObjectPolicy) error {
	switch f.view {
	case viewTable:
		meta := metav1.ListMeta{ResourceVersion: obj.GetResourceVersion()}
		table, err := h.newTables(res, f, include).table(meta, true, obj)
		if err != nil {
			return err
		}
		return appendAny(b, table, f.gvk("Table"), f.media)
	case viewPartial:
		partial := partialOf(obj, f)
		partial.TypeMeta = metav1.TypeMeta{}
		return appendAny(b, partial, f.gvk("PartialObjectMetadata"), f.media)
	case viewPartialList:
		return unlikeAsked("you requested PartialObjectMetadataList, but the requested object is not a list (*" + api.InternalName(res.gvk) + ")")
	}
	return h.encodings.appendObject(b, res, obj, f, true)
}

// appendListView writes a list of stored objects in the form's view.
func (h *Handler) appendListView(b *bytes.Buffer, res *resource, meta metav1.ListMeta, items []kind.Object, f form, include metav1.IncludeObjectPolicy) error {
	switch f.view {
	case viewTable:
		table, err := h.newTables(res, f, include).table(meta, true, items...)
		if err != nil {
			return err
		}
		return appendAny(b, table, f.gvk("Table"), f.media)
	case viewPartial:
		return unlikeAsked("you requested PartialObjectMetadata, but the requested object is a list (*" + api.InternalName(res.listGVK()) + ")")
	case viewPartialList:
		list := &metav1.PartialObjectMetadataList{ListMeta: meta} // without any, its items are null
		list.Items = slices.Grow(list.Items, len(items))
		for _, obj := range items {
			partial := partialOf(obj, f)
			if f.media == mediaProtobuf {
				partial.TypeMeta = metav1.TypeMeta{}
			}
			list.Items = append(list.Items, *partial)
		}
		return appendAny(b, list, f.gvk("PartialObjectMetadataList"), f.media)
	}
	return h.encodings.appendList(b, res, meta, items, f, whole)
}
