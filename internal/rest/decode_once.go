package rest

import (
	"reflect"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kjson "sigs.k8s.io/json"
)

// once reads a small JSON body once where it is all that it should be: the serializer
// would read it for its kind first. Whatever else it is, the serializer tells. A large
// one must not be in memory twice, and costs more than its kind.
type once struct{ runtime.Decoder }

// Decode implements runtime.Decoder. into is as new where it is not nil.
func (d once) Decode(data []byte, expected *schema.GroupVersionKind, into runtime.Object) (runtime.Object, *schema.GroupVersionKind, error) {
	if expected == nil || into == nil || len(data) > smallBody {
		return d.Decoder.Decode(data, expected, into)
	}
	said, ok := into.GetObjectKind().(*metav1.TypeMeta)
	if !ok {
		return d.Decoder.Decode(data, expected, into)
	}
	if strict, err := kjson.UnmarshalStrict(data, into); err == nil && len(strict) == 0 &&
		(said.APIVersion == "" || said.APIVersion == expected.GroupVersion().String()) && (said.Kind == "" || said.Kind == expected.Kind) {
		return into, new(*expected), nil
	}
	reflect.ValueOf(into).Elem().SetZero()
	return d.Decoder.Decode(data, expected, into)
}
