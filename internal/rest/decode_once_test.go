package rest

import (
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/skiff-sh/skiff/internal/kind"
)

// What a body is read as must not depend on how often it is read.
func TestDecodeOnce(t *testing.T) {
	long := newDecoders(kind.Scheme()).json
	if o, ok := long.(once); ok {
		long = o.Decoder
	}
	short := once{long}
	gvk := kind.ConfigMap.GVK()
	for _, body := range []string{
		`{}`, `null`, ``, `[]`, `"text"`, `{"data":`, `{"data":{"a":"b"}}trailing`,
		`{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a"},"data":{"a":"b"}}`,
		`{"kind":"ConfigMap","data":{"a":"b"}}`, `{"apiVersion":"v1","data":{"a":"b"}}`, `{"data":{"a":"b"}}`,
		`{"kind":"Secret","apiVersion":"v1"}`, `{"kind":"Deployment","apiVersion":"apps/v1"}`, `{"kind":"ConfigMap","apiVersion":"v2"}`,
		`{"kind":"Nothing","apiVersion":"v1"}`, `{"kind":"ConfigMap","apiVersion":"a/b/c"}`, `{"Kind":"Secret"}`, `{"KIND":"ConfigMap"}`,
		`{"kind":"ConfigMap","kind":"ConfigMap"}`, `{"data":{"a":"b","a":"c"}}`, `{"unknown":1}`, `{"data":{"a":1}}`, `{"kind":1}`,
	} {
		type outcome struct {
			obj    runtime.Object
			actual any
			strict bool
			text   string
		}
		read := func(d runtime.Decoder) (o outcome) {
			obj, actual, err := d.Decode([]byte(body), &gvk, &corev1.ConfigMap{})
			o.obj = obj
			if actual != nil {
				o.actual = *actual
			}
			o.strict = runtime.IsStrictDecodingError(err)
			if err != nil {
				o.text = err.Error()
			}
			return o
		}
		if got, want := read(short), read(long); !reflect.DeepEqual(got, want) {
			t.Errorf("%s is read as\n%+v\nnot as\n%+v", body, got, want)
		}
	}
}
