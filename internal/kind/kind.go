// Package kind describes every API kind skiff serves: names, scope, defaults,
// validation, update rules, table columns and selectable fields, one file per
// kind and one literal table (All) over them.
//
// Kind is the description; Face is a further group-version under which the same
// stored objects appear; Subresource is a part with update rules of its own.
// The invariant: every function of a Kind is pure, and those that take an old
// object never change it. The package never does I/O.
package kind

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Object is what the Go type of every kind is.
type Object interface {
	runtime.Object
	metav1.Object
}

// Kind describes one stored resource. Functions may be nil where a kind has
// nothing to say.
type Kind struct {
	Resource   schema.GroupVersionResource // storage version and plural name
	Kind       string
	Singular   string
	ShortNames []string
	Categories []string
	Namespaced bool
	Faces      []Face // further group-versions of the same objects

	New     func() Object
	NewList func() runtime.Object

	// Default fills what upstream's SetDefaults functions fill, in place.
	Default func(Object)
	// PrepareCreate drops what a client may not set at creation (status) and
	// sets what creation sets (generation 1).
	PrepareCreate func(Object)
	// PrepareUpdate carries over from old what an update of the main resource
	// may not change (status) and raises the generation where the spec changed.
	PrepareUpdate func(obj, old Object)
	// Validate and ValidateUpdate return upstream's field errors in its order,
	// those about metadata included. CreateErrors and UpdateErrors call them and
	// add what all kinds share.
	Validate       func(Object) field.ErrorList
	ValidateUpdate func(obj, old Object) field.ErrorList
	// Warnings returns texts for the Warning header.
	Warnings func(obj, old Object) []string
	// Canonicalize gives an object that was found good the form it is stored in.
	Canonicalize func(Object)
	// EarlyWarnings are about an object as it was sent to be created, before
	// PrepareCreate; they are given even if it is refused.
	EarlyWarnings func(Object) []string

	// DeletionGrace returns the seconds between the request for deletion and
	// the removal by whoever runs the object (nil or 0: removed at once).
	DeletionGrace func(obj Object, options *metav1.DeleteOptions) int64
	// DefaultPropagation is used when a deletion names none ("" is Background).
	DefaultPropagation metav1.DeletionPropagation

	// Lazy reports whether the change from old (nil at creation) to obj (nil at
	// deletion) may wait for the disk.
	Lazy func(obj, old Object) bool

	Subresources []Subresource

	// Columns and Row give the table that kubectl get prints. Row's cells
	// match Columns.
	Columns []metav1.TableColumnDefinition
	Row     func(obj Object, now time.Time) []any

	// Fields returns the selectable fields beyond metadata.name and
	// metadata.namespace; FieldNames lists their labels.
	FieldNames []string
	Fields     func(Object) fields.Set
}

// Face is a further group-version under which a stored resource is served.
type Face struct {
	Resource schema.GroupVersionResource
	New      func() Object
	NewList  func() runtime.Object
	// ToStored and FromStored convert without sharing memory that either
	// side may change.
	ToStored   func(Object) Object
	FromStored func(Object) Object
	// Validate and ValidateUpdate take the place of the kind's own. They are
	// given stored objects.
	Validate       func(Object) field.ErrorList
	ValidateUpdate func(obj, old Object) field.ErrorList
	// FieldNames maps the labels of field selectors in this face to the
	// kind's. Nil: they are the same.
	FieldNames map[string]string
	Columns    []metav1.TableColumnDefinition // nil: the kind's own
	Row        func(obj Object, now time.Time) []any
}

// Subresource is a part of an object that is updated under rules of its own.
// Those that are not plain updates of the object (binding, eviction, token,
// log, exec, attach, portforward, scale, proxy) have only a name and verbs here.
type Subresource struct {
	Name  string                  // "status", "scale", "binding" …
	Kind  schema.GroupVersionKind // kind of the body in discovery; zero: the parent's
	Verbs []string
	// PrepareUpdate carries over from old everything the subresource may not
	// change.
	PrepareUpdate  func(obj, old Object)
	ValidateUpdate func(obj, old Object) field.ErrorList
	Warnings       func(obj, old Object) []string
}

// Bucket is the name under which the store keeps the kind: "pods",
// "deployments.apps".
func (k *Kind) Bucket() string {
	return k.GroupResource().String()
}

// GroupResource returns the resource without its version.
func (k *Kind) GroupResource() schema.GroupResource { return k.Resource.GroupResource() }

// GVK returns the kind's storage group, version and kind.
func (k *Kind) GVK() schema.GroupVersionKind {
	return k.Resource.GroupVersion().WithKind(k.Kind)
}

// Subresource returns the named subresource, or nil.
func (k *Kind) Subresource(name string) *Subresource {
	for i := range k.Subresources {
		if k.Subresources[i].Name == name {
			return &k.Subresources[i]
		}
	}
	return nil
}
