// Package export writes the cluster's objects as YAML, for git and for leaving.
//
// Objects are what Read finds in a store; Write makes one stream of documents of
// them, and Directory a file of each. The invariant: the same objects make the
// same bytes, whatever the order in which they were written. The package never
// changes a cluster.
package export

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"

	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/store"
	"github.com/skiff-sh/skiff/internal/store/bolt"
)

// Selection is what is exported, and how much of it.
type Selection struct {
	Kinds     []*kind.Kind // empty: all
	Namespace string       // "": all, and what is in none
	// AllFields keeps what belongs to this one cluster: status, managedFields,
	// uid, resourceVersion, creationTimestamp and generation.
	AllFields bool
	// WithoutOwned leaves out what a cluster makes by itself: objects that have
	// an owner, Nodes, Events, Leases, Endpoints and EndpointSlices.
	WithoutOwned bool
}

// Object is one object to be exported.
type Object struct {
	Kind            *kind.Kind
	Namespace, Name string
	value           []byte
}

// Kinds returns the kinds that a person names: "pods", "po", "Deployment",
// "deployments.apps".
func Kinds(names []string) ([]*kind.Kind, error) {
	var kinds []*kind.Kind
	for _, name := range names {
		i := slices.IndexFunc(kind.All, func(k *kind.Kind) bool { return named(k, strings.ToLower(name)) })
		if i < 0 {
			return nil, fmt.Errorf("there is no kind %q: see skiff kubectl api-resources for those that there are", name)
		}
		kinds = append(kinds, kind.All[i])
	}
	return kinds, nil
}

func named(k *kind.Kind, name string) bool {
	return name == k.Resource.Resource || name == k.Bucket() || name == k.Singular || name == strings.ToLower(k.Kind) ||
		slices.Contains(k.ShortNames, name)
}

// Read returns the selected objects of the store at path, which no engine has
// open, in the order in which they are written, and the names of the resources
// that this program does not know.
func Read(ctx context.Context, path string, s Selection) (objects []Object, unknown []string, err error) {
	known := map[string]*kind.Kind{}
	for _, k := range kind.All {
		known[k.Bucket()] = k
	}
	err = bolt.Read(ctx, path, func(r store.Record) error {
		k := known[r.Key.Bucket]
		if k == nil {
			if !strings.HasPrefix(r.Key.Bucket, "!") && !slices.Contains(unknown, r.Key.Bucket) {
				unknown = append(unknown, r.Key.Bucket)
			}
			return nil
		}
		o := Object{Kind: k, Name: r.Key.Name, value: r.Value}
		if k.Namespaced {
			o.Namespace, o.Name, _ = strings.Cut(r.Key.Name, "/")
		}
		take, err := s.takes(o)
		if take {
			objects = append(objects, o)
		}
		return err
	})
	slices.SortFunc(objects, compare)
	return objects, unknown, err
}

// takes says whether an object is selected.
func (s Selection) takes(o Object) (bool, error) {
	if len(s.Kinds) > 0 && !slices.Contains(s.Kinds, o.Kind) || s.Namespace != "" && o.Namespace != s.Namespace {
		return false, nil
	}
	if !s.WithoutOwned {
		return true, nil
	}
	if slices.Contains([]*kind.Kind{kind.Node, kind.Event, kind.Lease, kind.Endpoints, kind.EndpointSlice}, o.Kind) {
		return false, nil
	}
	obj, err := o.decode()
	if err != nil {
		return false, err
	}
	// The cluster's own authority is told to every namespace by a controller.
	authority := o.Kind == kind.ConfigMap && o.Name == "kube-root-ca.crt"
	return len(obj.GetOwnerReferences()) == 0 && !authority, nil
}

// compare sorts by group, kind, namespace and name, after what others need to
// be there: namespaces, what is in none, service accounts.
func compare(a, b Object) int {
	return cmp.Or(
		cmp.Compare(rank(a.Kind), rank(b.Kind)),
		cmp.Compare(a.Kind.Resource.Group, b.Kind.Resource.Group),
		cmp.Compare(a.Kind.Kind, b.Kind.Kind),
		cmp.Compare(a.Namespace, b.Namespace),
		cmp.Compare(a.Name, b.Name),
	)
}

func rank(k *kind.Kind) int {
	switch {
	case k == kind.Namespace:
		return 0
	case !k.Namespaced:
		return 1
	case k == kind.ServiceAccount:
		return 2
	}
	return 3
}

func (o Object) decode() (kind.Object, error) {
	obj := o.Kind.New()
	m, ok := obj.(interface{ Unmarshal([]byte) error })
	if !ok {
		return nil, fmt.Errorf("decode %s: %T has no protobuf form", o, obj)
	}
	if err := m.Unmarshal(o.value); err != nil {
		return nil, fmt.Errorf("decode %s: %w", o, err)
	}
	obj.GetObjectKind().SetGroupVersionKind(o.Kind.GVK())
	return obj, nil
}

// String returns "deployments.apps/default/web".
func (o Object) String() string {
	if o.Namespace == "" {
		return o.Kind.Bucket() + "/" + o.Name
	}
	return o.Kind.Bucket() + "/" + o.Namespace + "/" + o.Name
}

// ours are the fields of metadata that only make sense in the cluster that they
// come from.
var ours = []string{
	"managedFields", "resourceVersion", "uid", "creationTimestamp", "generation", "selfLink",
	"deletionTimestamp", "deletionGracePeriodSeconds",
}

// YAML returns the object's document.
func (o Object) YAML(allFields bool) ([]byte, error) {
	obj, err := o.decode()
	if err != nil {
		return nil, err
	}
	encoded, err := json.Marshal(obj)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", o, err)
	}
	fields := map[string]any{}
	if err := json.Unmarshal(encoded, &fields); err != nil { // whole numbers stay whole
		return nil, fmt.Errorf("encode %s: %w", o, err)
	}
	if !allFields {
		strip(o.Kind, fields)
	}
	data, err := yaml.Marshal(fields)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", o, err)
	}
	return data, nil
}

// strip removes what belongs to one cluster alone.
func strip(k *kind.Kind, fields map[string]any) {
	if k != kind.Event { // which has no status, but says when
		delete(fields, "status")
	}
	metadata, _ := fields["metadata"].(map[string]any)
	for _, name := range ours {
		delete(metadata, name)
	}
	if k == kind.Namespace {
		removeFinalizers(fields)
	}
}

// removeFinalizers takes out of a namespace what the server sets itself.
func removeFinalizers(fields map[string]any) {
	spec, _ := fields["spec"].(map[string]any)
	if list, _ := spec["finalizers"].([]any); len(list) == 1 && list[0] == string(corev1.FinalizerKubernetes) {
		delete(fields, "spec")
	}
}

// Write writes the objects as one stream of documents.
func Write(w io.Writer, objects []Object, allFields bool) error {
	for i, o := range objects {
		data, err := o.YAML(allFields)
		if err != nil {
			return err
		}
		if i > 0 {
			data = slices.Concat([]byte("---\n"), data)
		}
		if _, err := io.Copy(w, bytes.NewReader(data)); err != nil {
			return err
		}
	}
	return nil
}
