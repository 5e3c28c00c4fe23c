package api

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/applyconfigurations"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/yaml"

	"github.com/skiff-sh/skiff/internal/kind"
)

// Apply merges what a manager wants into an object, or creates it, and records
// which fields the manager now owns (KEP-555).
func (a *API) Apply(ctx context.Context, req Request, patch Patch) (out kind.Object, created bool, err error) {
	req.applied = true
	wanted, err := decodeApply(&req, patch)
	if err != nil {
		return nil, false, err
	}
	for {
		if _, ok := a.state.Get(req.Kind, req.namespace(), req.Name); ok || req.Subresource != "" {
			out, err = a.rewrite(ctx, &req, func(old kind.Object) (kind.Object, error) {
				return a.fields.apply(&req, old, wanted.DeepCopy(), patch.Force)
			})
			if req.Subresource != "" || !apierrors.IsNotFound(err) {
				return out, false, err
			}
		}
		if wanted.GetUID() != "" {
			return nil, false, apierrors.NewConflict(req.resource(), req.Name, errors.New("uid mismatch: the provided object specified uid "+
				string(wanted.GetUID())+", and no existing object was found"))
		}
		if err := req.mayCreate(ctx); err != nil {
			return nil, false, err
		}
		obj, err := a.fields.apply(&req, nil, wanted.DeepCopy(), patch.Force)
		if err != nil {
			return nil, false, err
		}
		obj.SetResourceVersion("")
		out, err = a.Create(ctx, req, obj)
		if !apierrors.IsAlreadyExists(err) {
			return out, err == nil, err
		}
	}
}

// decodeApply reads what the manager wants.
func decodeApply(req *Request, patch Patch) (*unstructured.Unstructured, error) {
	if req.FieldManager == "" {
		return nil, apierrors.NewInvalid(schema.GroupKind{Group: "meta.k8s.io", Kind: "PatchOptions"}, "", field.ErrorList{
			field.Required(field.NewPath("fieldManager"), "is required for apply patch"),
		})
	}
	wanted := &unstructured.Unstructured{Object: map[string]any{}}
	if err := yaml.Unmarshal(patch.Data, &wanted.Object); err != nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("error decoding YAML: %v", err))
	}
	if wanted.GetManagedFields() != nil {
		return nil, apierrors.NewBadRequest("metadata.managedFields must be nil")
	}
	want := req.version().WithKind(req.Kind.Kind)
	if have := wanted.GroupVersionKind(); have != want {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("incorrect version specified in apply patch. Specified patch version: %s, expected: %s",
			have.GroupVersion(), want.GroupVersion()))
	}
	if wanted.GetName() == "" {
		wanted.SetName(req.Name)
	}
	if ns := req.namespace(); ns != "" && wanted.GetNamespace() == "" {
		wanted.SetNamespace(ns)
	}
	check := req.Kind.New()
	check.SetName(wanted.GetName())
	check.SetNamespace(wanted.GetNamespace())
	return wanted, checkIdentity(req, check)
}

// managers merges applied objects and keeps the record of who owns which field.
//
// The record begins with the first apply of an object, as upstream's does where
// tracking at creation is off: the fields that are there by then belong to the
// manager "before-first-apply". Objects that nobody ever applied on the server
// carry no record, which spares memory, disk and time on every write, and the
// schema of all types (a tenth of a second, tens of megabytes of garbage) is read
// when the first apply comes.
type managers struct {
	types sync.Once
	conv  managedfields.TypeConverter

	mu    sync.Mutex // guards known
	known map[managerKey]*managedfields.FieldManager
}

type managerKey struct {
	kind        *kind.Kind
	version     schema.GroupVersion
	subresource string
}

// create records nothing: see managers. What apply is about to create has its
// record already.
func (m *managers) create(req *Request, obj kind.Object) {
	if !req.applied {
		obj.SetManagedFields(nil)
	}
}

// update keeps the record of an object that has one.
func (m *managers) update(req *Request, obj, old kind.Object) error {
	if req.applied {
		return nil
	}
	if len(old.GetManagedFields()) == 0 {
		obj.SetManagedFields(nil)
		return nil
	}
	f, err := m.of(req)
	if err != nil {
		return err
	}
	live, _ := faceOf(req, old)
	next, _ := faceOf(req, obj)
	tracked := f.UpdateNoErrors(live.DeepCopyObject(), next, req.manager())
	accessor, err := meta.Accessor(tracked)
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	obj.SetManagedFields(wholeSeconds(accessor.GetManagedFields()))
	return nil
}

// apply returns what becomes of old, or of nothing, when a manager wants
// something.
func (m *managers) apply(req *Request, old kind.Object, wanted runtime.Object, force bool) (kind.Object, error) {
	f, err := m.of(req)
	if err != nil {
		return nil, err
	}
	var live runtime.Object
	empty := (&converter{req.Kind}).empty(req.version())
	if old != nil {
		face, _ := faceOf(req, old)
		live = face.DeepCopyObject()
		if appliedByClient(old) {
			live = f.UpdateNoErrors(empty, live, clientSideManager)
		}
	} else {
		live = empty
	}
	merged, err := f.Apply(live, wanted, req.FieldManager, force)
	if err != nil {
		var status *apierrors.StatusError
		if errors.As(err, &status) {
			return nil, status
		}
		// A field that does not exist: upstream gives this the code of a
		// server's fault and no reason; clients see the text.
		return nil, &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: 500, Message: err.Error()}}
	}
	obj, ok := merged.(kind.Object)
	if !ok {
		return nil, apierrors.NewInternalError(fmt.Errorf("apply made a %T of a %s", merged, req.Kind.Kind))
	}
	obj.SetManagedFields(wholeSeconds(obj.GetManagedFields()))
	return stored(req, obj), nil
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

// clientSideManager is what kubectl calls itself where it merges by itself.
const clientSideManager = "kubectl-client-side-apply"

// appliedByClient reports whether what an object has was applied by kubectl
// without the server's help. Kubectl looks for its own name in the record to
// take those fields over; without it a field that goes from the manifest would
// stay in the object.
func appliedByClient(obj kind.Object) bool {
	_, ok := obj.GetAnnotations()[corev1.LastAppliedConfigAnnotation]
	return ok && len(obj.GetManagedFields()) == 0
}

// of returns the field manager for what the request is about.
func (m *managers) of(req *Request) (*managedfields.FieldManager, error) {
	m.types.Do(func() { m.conv = applyconfigurations.NewTypeConverter(kind.Scheme()) })
	key := managerKey{req.Kind, req.version(), req.Subresource}
	m.mu.Lock()
	defer m.mu.Unlock()
	if f := m.known[key]; f != nil {
		return f, nil
	}
	c := &converter{req.Kind}
	f, err := managedfields.NewDefaultFieldManager(m.conv, c, c, c,
		key.version.WithKind(req.Kind.Kind), key.version, req.Subresource, resetFields(req))
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	if m.known == nil {
		m.known = map[managerKey]*managedfields.FieldManager{}
	}
	m.known[key] = f
	return f, nil
}

// resetFields are those that a manager never owns through this part of the
// object, because it cannot change them there.
func resetFields(req *Request) map[fieldpath.APIVersion]fieldpath.Filter {
	if req.Kind.Subresource("status") == nil {
		return nil
	}
	other := "status"
	if req.Subresource == "status" {
		other = "spec"
	}
	return fieldpath.NewExcludeFilterSetMap(map[fieldpath.APIVersion]*fieldpath.Set{
		fieldpath.APIVersion(req.version().String()): fieldpath.NewSet(fieldpath.MakePathOrDie(other)),
	})
}

// manager names who changes fields, for the record.
func (r *Request) manager() string {
	if r.FieldManager != "" {
		return r.FieldManager
	}
	return "unknown"
}

// sameManagers compares records; when a manager changed something last does
// not count.
func sameManagers(a, b []metav1.ManagedFieldsEntry) bool {
	return slices.EqualFunc(a, b, func(x, y metav1.ManagedFieldsEntry) bool {
		x.Time, y.Time = nil, nil
		return equality.Semantic.DeepEqual(x, y)
	})
}

// converter is what managedfields needs to know of a kind's versions.
type converter struct{ kind *kind.Kind }

// face returns how a group-version shows the kind; nil is the storage version.
func (c *converter) face(gv schema.GroupVersion) *kind.Face {
	for i := range c.kind.Faces {
		if f := &c.kind.Faces[i]; f.Resource.GroupVersion() == gv {
			return f
		}
	}
	return nil
}

func (c *converter) empty(gv schema.GroupVersion) kind.Object {
	obj := c.kind.New()
	if f := c.face(gv); f != nil {
		obj = f.New()
	}
	obj.GetObjectKind().SetGroupVersionKind(gv.WithKind(c.kind.Kind))
	return obj
}

// New is part of runtime.ObjectCreater.
func (c *converter) New(gvk schema.GroupVersionKind) (runtime.Object, error) {
	return c.empty(gvk.GroupVersion()), nil
}

// Default is part of runtime.ObjectDefaulter.
func (c *converter) Default(in runtime.Object) {
	obj, ok := in.(kind.Object)
	if ok && c.kind.Default != nil && c.face(obj.GetObjectKind().GroupVersionKind().GroupVersion()) == nil {
		c.kind.Default(obj)
	}
}

// ConvertToVersion is part of runtime.ObjectConvertor. It never changes in.
func (c *converter) ConvertToVersion(in runtime.Object, target runtime.GroupVersioner) (runtime.Object, error) {
	gv, ok := target.(schema.GroupVersion)
	if !ok {
		return nil, fmt.Errorf("convert %s: target %T is not a version", c.kind.Kind, target)
	}
	if u, ok := in.(*unstructured.Unstructured); ok {
		obj := c.empty(u.GroupVersionKind().GroupVersion())
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, obj); err != nil {
			return nil, err
		}
		in = obj
	}
	obj, ok := in.(kind.Object)
	if !ok {
		return nil, fmt.Errorf("convert %s: %T has no metadata", c.kind.Kind, in)
	}
	have := obj.GetObjectKind().GroupVersionKind().GroupVersion()
	if have == gv {
		return obj, nil
	}
	if f := c.face(have); f != nil {
		obj = f.ToStored(obj)
	}
	if f := c.face(gv); f != nil {
		obj = f.FromStored(obj)
	}
	obj.GetObjectKind().SetGroupVersionKind(gv.WithKind(c.kind.Kind))
	return obj, nil
}

// Convert is part of runtime.ObjectConvertor; managedfields does not use it.
func (c *converter) Convert(_, _, _ any) error {
	return fmt.Errorf("convert %s: only whole versions are converted", c.kind.Kind)
}

// ConvertFieldLabel is part of runtime.ObjectConvertor.
func (c *converter) ConvertFieldLabel(_ schema.GroupVersionKind, label, value string) (string, string, error) {
	return label, value, nil
}
