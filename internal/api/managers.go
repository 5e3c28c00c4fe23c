package api

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	runtimeschema "k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/skiff-sh/skiff/internal/api/schema"
	"github.com/skiff-sh/skiff/internal/kind"
)

// managers keep the record of who owns which field of an object, from its
// creation on, and merge what is applied (KEP-555). What clients send in
// metadata.managedFields is taken for the record, as upstream does, except where
// it makes no sense or goes through a subresource.
type managers struct {
	types schema.Types
	sets  ownedSets

	mu    sync.Mutex // guards known
	known map[managerKey]*managedfields.FieldManager
}

type managerKey struct {
	kind        *kind.Kind
	version     runtimeschema.GroupVersion
	subresource string
	checked     bool
}

// create records who made an object.
func (m *managers) create(req *Request, obj kind.Object) error {
	return m.update(req, obj, req.empty())
}

// update records what differs from old as being obj's sender's.
func (m *managers) update(req *Request, obj, old kind.Object) error {
	if req.recorded {
		return nil
	}
	if record, ok := m.steady(req, obj, old); ok {
		obj.SetManagedFields(record)
		return nil
	}
	return m.anew(req, obj, old)
}

// anew makes the record by comparing all of the objects.
func (m *managers) anew(req *Request, obj, old kind.Object) error {
	f, err := m.of(req, false)
	if err != nil {
		return err
	}
	next, _ := faceOf(req, obj)
	live := old
	if old.GetUID() != "" {
		live, _ = faceOf(req, reread(req.Kind, old))
	}
	tracked := f.UpdateNoErrors(live, next, req.FieldManager).(kind.Object)
	obj.SetManagedFields(wholeSeconds(tracked.GetManagedFields()))
	return nil
}

// reread returns a copy of an object as upstream's store would give it back. Lists that
// belong together as a whole are compared as Go values, in which "1" and "1000m"
// differ, and nothing and an empty list; and defaults round quantities, so that numbers
// of more than 18 digits are others without them.
func reread(k *kind.Kind, obj kind.Object) kind.Object {
	type message interface {
		Marshal() ([]byte, error)
		Unmarshal([]byte) error
	}
	like := reflect.New(reflect.TypeOf(obj).Elem()).Interface()
	from, ok := obj.(message)
	to, also := like.(message)
	if !ok || !also {
		return obj.DeepCopyObject().(kind.Object)
	}
	data, err := from.Marshal()
	if err == nil {
		err = to.Unmarshal(data)
	}
	if err != nil {
		return obj.DeepCopyObject().(kind.Object)
	}
	copied := like.(kind.Object)
	copied.GetObjectKind().SetGroupVersionKind(obj.GetObjectKind().GroupVersionKind())
	if k.Default != nil {
		k.Default(copied)
	}
	return copied
}

// apply returns what becomes of old, or of nothing, when a manager wants
// something.
func (m *managers) apply(req *Request, old kind.Object, wanted *unstructured.Unstructured, force bool) (kind.Object, error) {
	merged, err := m.merge(req, old, wanted.DeepCopy(), force, false)
	var status *apierrors.StatusError
	switch {
	case errors.As(err, &status):
		return nil, status
	case err != nil:
		// Upstream looks at objects before it compares them, and says so.
		if _, first := m.merge(req, old, wanted, force, true); first != nil {
			err = first
		}
		// A field that does not exist has the code of a server's fault and no
		// reason upstream; clients see the text.
		return nil, unknown(err)
	}
	obj, ok := merged.(kind.Object)
	if !ok {
		return nil, apierrors.NewInternalError(fmt.Errorf("apply made a %T of a %s", merged, req.Kind.Kind))
	}
	obj.SetManagedFields(wholeSeconds(obj.GetManagedFields()))
	return stored(req, obj), nil
}

// merge asks managedfields for what becomes of an object.
func (m *managers) merge(req *Request, old kind.Object, wanted *unstructured.Unstructured, force, checked bool) (runtime.Object, error) {
	f, err := m.of(req, checked)
	if err != nil {
		return nil, err
	}
	live := req.empty()
	if old != nil {
		live, _ = faceOf(req, reread(req.Kind, old))
	}
	return f.Apply(live, wanted, req.FieldManager, force)
}

// wholeSeconds gives a record its times as fields of objects have them.
func wholeSeconds(record []metav1.ManagedFieldsEntry) []metav1.ManagedFieldsEntry {
	for i := range record {
		if at := record[i].Time; at != nil {
			whole := kind.Timestamp(at.Time)
			record[i].Time = &whole
		}
	}
	return record
}

// of returns the field manager for what the request is about. One that is checked
// looks at whole objects before it compares them.
func (m *managers) of(req *Request, checked bool) (*managedfields.FieldManager, error) {
	key := managerKey{req.Kind, req.version(), req.Subresource, checked}
	m.mu.Lock()
	defer m.mu.Unlock()
	if f := m.known[key]; f != nil {
		return f, nil
	}
	c := &converter{kind: req.Kind, types: &m.types, group: key.version.Group, checked: checked}
	f, err := managedfields.NewDefaultFieldManager(c, c, c, c,
		key.version.WithKind(req.Kind.Kind), key.version, req.Subresource, ignoredFields(req))
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	if m.known == nil {
		m.known = map[managerKey]*managedfields.FieldManager{}
	}
	m.known[key] = f
	return f, nil
}

// ignoredFields are those that nobody owns through this part of the object,
// because they cannot be changed there.
func ignoredFields(req *Request) map[fieldpath.APIVersion]fieldpath.Filter {
	filter := ignored(req.Kind, req.Subresource)
	if filter == nil {
		return nil
	}
	return map[fieldpath.APIVersion]fieldpath.Filter{fieldpath.APIVersion(req.version().String()): filter}
}

func ignored(k *kind.Kind, subresource string) fieldpath.Filter {
	except := func(paths ...fieldpath.Path) fieldpath.Filter {
		return fieldpath.NewExcludeSetFilter(fieldpath.NewSet(paths...))
	}
	path := fieldpath.MakePathOrDie
	switch {
	case k == kind.Pod && (subresource == "ephemeralcontainers" || subresource == "resize"):
		return nil // upstream's storage keeps to itself what its strategy says
	case k == kind.Pod && subresource == "status":
		return except(path("spec"), path("metadata", "deletionTimestamp"), path("metadata", "ownerReferences"))
	case k == kind.Deployment && subresource == "status":
		return except(path("spec"), path("metadata", "labels"))
	case k == kind.CertificateSigningRequest && subresource == "":
		return except(path("spec"), path("status"))
	case k == kind.CertificateSigningRequest && subresource == "status":
		return except(path("spec"), path("status", "conditions"))
	case k == kind.CertificateSigningRequest && subresource == "approval":
		return except(path("spec"), path("status", "certificate"))
	case subresource == "status":
		return except(path("spec"))
	case k.Subresource("status") != nil:
		return except(path("status"))
	}
	return nil
}

// sameManagers compares records; when a manager changed something last does
// not count.
func sameManagers(a, b []metav1.ManagedFieldsEntry) bool {
	return slices.EqualFunc(a, b, func(x, y metav1.ManagedFieldsEntry) bool {
		x.Time, y.Time = nil, nil
		return equality.Semantic.DeepEqual(x, y)
	})
}
