package api_test

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skiff-sh/skiff/internal/api"
	"github.com/skiff-sh/skiff/internal/kind"
)

var patchTypes = []types.PatchType{types.JSONPatchType, types.MergePatchType, types.StrategicMergePatchType, types.ApplyYAMLPatchType}

// A patch of any type is applied or refused with a Status, of an object with a record
// of managed fields and of one without; whatever is in the record, too.
func FuzzPatch(f *testing.F) {
	for i, seed := range []string{
		`[{"op":"add","path":"/metadata/labels","value":{"a":"b"}},{"op":"move","from":"/spec/containers/0","path":"/spec/containers/-"}]`,
		`[{"op":"replace","path":"/spec/containers/-1/image","value":1},{"op":"test","path":"","value":null}]`, `[{"op":"copy","from":"","path":"/a~1b~0/01"}]`,
		`{"metadata":{"labels":{"a":null},"managedFields":[{}]},"spec":null}`, `null`, `{"a":{"b":[{}]}}`,
		`{"spec":{"containers":[{"name":"main","$patch":"delete"}],"$patch":"replace"}}`, `{"spec":{"$deleteFromPrimitiveList/x":[1],"$setElementOrder/containers":["a"]}}`,
		`{"$retainKeys":[1],"metadata":{"finalizers":["a"],"$deleteFromPrimitiveList/finalizers":["a"]}}`, `{"spec":{"containers":[{"name":null}]}}`,
		"apiVersion: v1\nkind: Pod\nmetadata: {labels: {x: y}}\nspec: {containers: [{name: main, image: j}, {name: main}]}", "apiVersion: v1\nkind: Pod\nspec: {tolerations: [{}], containers: null}", "a: &a [*a]",
	} {
		f.Add(uint8(i), []byte(seed), []byte(`{"f:spec":{"f:containers":{"k:{\"name\":\"main\"}":{".":{},"f:image":{}}}}}`))
		f.Add(uint8(min(i/3, 3)), []byte(seed), []byte(`{"v:1":{},"i:0":{},".":{}}`))
	}
	c := newFuzzCluster(f)
	f.Fuzz(func(t *testing.T, which uint8, data, record []byte) {
		patch := api.Patch{Type: patchTypes[which%4], Data: data, Force: which&16 != 0, FieldValidation: []string{"", "Ignore", "Strict", "Warn"}[which>>5&3]}
		req := to(kind.Pod, "default", "p")
		req.DryRun = true
		if which&4 != 0 {
			req.Name = "fresh"
		}
		_, err := c.Patch(context.Background(), req, patch)
		wantAnswer(t, err)
		p := pod("recorded")
		p.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "x", Operation: metav1.ManagedFieldsOperationApply, APIVersion: "v1", FieldsType: "FieldsV1", FieldsV1: &metav1.FieldsV1{Raw: record}}}
		req.Name = "recorded"
		_, _, err = c.Put(context.Background(), req, p)
		wantAnswer(t, err)
	})
}

// newFuzzCluster is an API with two Pods.
func newFuzzCluster(f *testing.F) *cluster {
	f.Helper()
	c := newCluster(f)
	c.create(kind.Pod, pod("p"))
	c.create(kind.Pod, pod("recorded", func(p *corev1.Pod) { p.Labels = map[string]string{"a": "b"} }))
	return c
}

// wantAnswer fails on errors that a client cannot be told.
func wantAnswer(t *testing.T, err error) {
	t.Helper()
	if err != nil && apierrors.ReasonForError(err) == metav1.StatusReasonUnknown {
		var status apierrors.APIStatus
		if s, ok := err.(apierrors.APIStatus); ok { //nolint:errorlint // nothing wraps it
			status = s
		}
		if status == nil {
			t.Errorf("not a Status: %T %v", err, err)
		}
	}
}
