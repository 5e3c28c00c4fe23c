package api_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skiff-sh/skiff/internal/api"
	"github.com/skiff-sh/skiff/internal/kind"
)

func (c *cluster) patch(k *kind.Kind, name string, format types.PatchType, data string) (kind.Object, error) {
	return c.Patch(context.Background(), to(k, "default", name), api.Patch{Type: format, Data: []byte(data)})
}

func TestPatchFormats(t *testing.T) {
	tests := map[string]struct {
		format types.PatchType
		data   string
		want   map[string]string
	}{
		"json":  {types.JSONPatchType, `[{"op":"add","path":"/data/b","value":"2"},{"op":"remove","path":"/data/a"}]`, map[string]string{"b": "2"}},
		"merge": {types.MergePatchType, `{"data":{"a":null,"b":"2"}}`, map[string]string{"b": "2"}},
		"strategic merge": {
			types.StrategicMergePatchType, `{"data":{"a":null,"b":"2"}}`, map[string]string{"b": "2"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			c.create(kind.ConfigMap, configMap("cm", "a", "1"))
			out, err := c.patch(kind.ConfigMap, "cm", test.format, test.data)
			if err != nil {
				t.Fatal(err)
			}
			if got := out.(*corev1.ConfigMap).Data; fmt.Sprint(got) != fmt.Sprint(test.want) {
				t.Errorf("data %v, want %v", got, test.want)
			}
		})
	}
}

func TestPatchMergesListsByTheirKeys(t *testing.T) {
	c := newCluster(t)
	c.create(kind.Deployment, deployment("d", 1))
	out, err := c.patch(kind.Deployment, "d", types.StrategicMergePatchType,
		`{"spec":{"template":{"spec":{"containers":[{"name":"side","image":"alpine"},{"name":"main","image":"busybox:2"}]}}}}`)
	if err != nil {
		t.Fatal(err)
	}
	images := map[string]string{}
	for _, container := range asDeployment(out).Spec.Template.Spec.Containers {
		images[container.Name] = container.Image
	}
	if images["main"] != "busybox:2" || images["side"] != "alpine" || out.GetGeneration() != 2 {
		t.Errorf("images %v, generation %d", images, out.GetGeneration())
	}
	out, err = c.patch(kind.Deployment, "d", types.StrategicMergePatchType,
		`{"spec":{"template":{"spec":{"containers":[{"name":"side","$patch":"delete"}]}}}}`)
	if err != nil || len(asDeployment(out).Spec.Template.Spec.Containers) != 1 {
		t.Errorf("containers after $patch: delete: %v, %v", out, err)
	}
}

func TestPatchRefuses(t *testing.T) {
	c := newCluster(t)
	c.create(kind.ConfigMap, configMap("cm", "a", "1"))
	strict := metav1.FieldValidationStrict
	tests := map[string]struct {
		patch  api.Patch
		name   string
		reason metav1.StatusReason
		text   string
		code   int32
	}{
		"malformed JSON patch":  {api.Patch{Type: types.JSONPatchType, Data: []byte(`{"op":1}`)}, "cm", metav1.StatusReasonBadRequest, "", 400},
		"malformed merge patch": {api.Patch{Type: types.MergePatchType, Data: []byte(`nope`)}, "cm", metav1.StatusReasonBadRequest, "error decoding patch: ", 400},
		"malformed strategic":   {api.Patch{Type: types.StrategicMergePatchType, Data: []byte(`[]`)}, "cm", metav1.StatusReasonBadRequest, "", 400},
		"failing test": {
			api.Patch{Type: types.JSONPatchType, Data: []byte(`[{"op":"test","path":"/data/a","value":"9"}]`)}, "cm",
			metav1.StatusReasonInvalid, "the server rejected our request due to an error in our request", 422,
		},
		"growing without end": {
			api.Patch{Type: types.JSONPatchType, Data: doublings(12)}, "cm",
			metav1.StatusReasonInvalid, "the server rejected our request due to an error in our request", 422,
		},
		"wrong type":  {api.Patch{Type: types.MergePatchType, Data: []byte(`{"data":[1]}`)}, "cm", metav1.StatusReasonInvalid, "patch: Invalid value", 422},
		"rename":      {api.Patch{Type: types.MergePatchType, Data: []byte(`{"metadata":{"name":"other"}}`)}, "cm", metav1.StatusReasonBadRequest, "the name of the object (other) does not match the name on the URL (cm)", 400},
		"revision":    {api.Patch{Type: types.MergePatchType, Data: []byte(`{"metadata":{"resourceVersion":"1"}}`)}, "cm", metav1.StatusReasonConflict, "the object has been modified", 409},
		"missing":     {api.Patch{Type: types.MergePatchType, Data: []byte(`{}`)}, "none", metav1.StatusReasonNotFound, `configmaps "none" not found`, 404},
		"format":      {api.Patch{Type: "text/plain", Data: []byte(`{}`)}, "cm", metav1.StatusReasonUnsupportedMediaType, "", 415},
		"list's key":  {api.Patch{Type: types.StrategicMergePatchType, Data: []byte(`{"metadata":{"$setElementOrder/ownerReferences":[{"uid":{}}],"ownerReferences":[{"uid":{}}]}}`)}, "cm", metav1.StatusReasonBadRequest, "name the items of its lists by plain values", 400},
		"unknown":     {api.Patch{Type: types.MergePatchType, Data: []byte(`{"date":{}}`), FieldValidation: strict}, "cm", metav1.StatusReasonInvalid, `unknown field "date"`, 422},
		"unknown too": {api.Patch{Type: types.StrategicMergePatchType, Data: []byte(`{"date":{}}`), FieldValidation: strict}, "cm", metav1.StatusReasonInvalid, `unknown field "date"`, 422},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := c.Patch(context.Background(), to(kind.ConfigMap, "default", test.name), test.patch)
			if status := wantStatus(t, err, test.reason, test.text); status.ErrStatus.Code != test.code {
				t.Errorf("code %d, want %d", status.ErrStatus.Code, test.code)
			}
		})
	}
	for _, format := range []types.PatchType{types.MergePatchType, types.StrategicMergePatchType} {
		req := to(kind.ConfigMap, "default", "cm")
		var warnings []string
		req.Warn = func(text string) { warnings = append(warnings, text) }
		_, err := c.Patch(context.Background(), req, api.Patch{Type: format, Data: []byte(`{"date":{}}`)})
		if err != nil || len(warnings) != 1 || warnings[0] != `unknown field "date"` {
			t.Errorf("an unknown field without strict validation: %v, warnings %q", err, warnings)
		}
	}
}

// doublings copies a document's data into itself again and again.
func doublings(n int) []byte {
	patch := fmt.Sprintf(`[{"op":"add","path":"/data/a","value":%q}`, strings.Repeat("x", 4096))
	for i := range n {
		patch += fmt.Sprintf(`,{"op":"copy","from":"/data","path":"/data/%d"}`, i)
	}
	return []byte(patch + "]")
}

func TestPatchesDoNotLoseEachOther(t *testing.T) {
	c := newCluster(t)
	c.create(kind.ConfigMap, configMap("cm"))
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			if _, err := c.patch(kind.ConfigMap, "cm", types.MergePatchType, fmt.Sprintf(`{"data":{"k%d":"x"}}`, i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := len(c.get(kind.ConfigMap, "default", "cm").(*corev1.ConfigMap).Data); got != 16 {
		t.Errorf("%d of 16 patches are there", got)
	}
}

// An Event of events.k8s.io is a core one with other field names: patches speak
// those of the group that was asked for.
func TestPatchOfAnotherFace(t *testing.T) {
	c := newCluster(t)
	face := &kind.Event.Faces[0]
	event := face.ToStored(&eventsv1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "e"},
		Regarding:  corev1.ObjectReference{Namespace: "default", Kind: "Pod", Name: "p"},
		EventTime:  metav1.NewMicroTime(time.Unix(1, 0)), Reason: "Testing", Action: "Test", Note: "first", Type: "Normal",
		ReportingController: "test", ReportingInstance: "test-1",
	})
	req := to(kind.Event, "default", "e")
	req.Face = face
	if _, err := c.Create(context.Background(), req, event); err != nil {
		t.Fatal(err)
	}
	patch := func(data string) (kind.Object, error) {
		return c.Patch(context.Background(), req, api.Patch{Type: types.StrategicMergePatchType, Data: []byte(data)})
	}
	out, err := patch(`{"series":{"count":7,"lastObservedTime":"2026-01-01T00:00:00.000000Z"}}`)
	if err != nil {
		t.Fatal(err)
	}
	if e := out.(*corev1.Event); e.Series == nil || e.Series.Count != 7 || e.Message != "first" {
		t.Errorf("stored event %+v", e)
	}
	// The newer group is stricter than core.
	req.Name = "bad"
	bad := event.DeepCopyObject().(*corev1.Event)
	bad.Name, bad.ResourceVersion, bad.UID, bad.Type = "bad", "", "", "Odd"
	_, err = c.Create(context.Background(), req, bad)
	wantStatus(t, err, metav1.StatusReasonInvalid, `Event "bad" is invalid: type: Invalid value`)
	req.Name = "e"
	_, err = patch(`{"note":"second"}`)
	wantStatus(t, err, metav1.StatusReasonInvalid, `Event "e" is invalid: message: Invalid value: "second": field is immutable`)
	for selector, want := range map[string]int{"regarding.name=p": 1, "regarding.name=q": 0} {
		list, err := c.List(context.Background(), api.Request{Kind: kind.Event, Face: face, Namespace: "default"}, api.ListOptions{FieldSelector: selector})
		if err != nil || len(list.Items) != want {
			t.Errorf("%s: %+v %v", selector, list, err)
		}
	}
	_, err = c.List(context.Background(), api.Request{Kind: kind.Event, Face: face, Namespace: "default"}, api.ListOptions{FieldSelector: "involvedObject.name=p"})
	wantStatus(t, err, metav1.StatusReasonBadRequest, "field label not supported: involvedObject.name")
	for _, selector := range []string{"regarding.kind=Pod", "reportingController=test", "reason!=Other"} {
		list, err := c.List(context.Background(), api.Request{Kind: kind.Event, Face: face, Namespace: "default"}, metav1.ListOptions{FieldSelector: selector})
		if err != nil || len(list.Items) != 1 {
			t.Errorf("list with %s: %v, %v", selector, list, err)
		}
	}
	_, err = c.Get(context.Background(), api.Request{Kind: kind.Event, Face: face, Namespace: "default", Name: "gone"})
	wantStatus(t, err, metav1.StatusReasonNotFound, `events.events.k8s.io "gone" not found`)
}

func (c *cluster) apply(manager, name, yaml string, force bool) (kind.Object, bool, error) {
	req := to(kind.ConfigMap, "default", name)
	req.FieldManager = manager
	return c.Apply(context.Background(), req, api.Patch{Type: types.ApplyPatchType, Data: []byte(yaml), Force: force})
}

func TestApply(t *testing.T) {
	c := newCluster(t)
	manifest := func(pairs string) string {
		return "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: cm\ndata: {" + pairs + "}\n"
	}
	out, created, err := c.apply("one", "cm", manifest("a: x, b: w"), false)
	if err != nil || !created {
		t.Fatalf("created %v, %v", created, err)
	}
	if len(out.GetManagedFields()) != 1 || out.GetManagedFields()[0].Manager != "one" || out.GetManagedFields()[0].Operation != metav1.ManagedFieldsOperationApply {
		t.Fatalf("managed fields %+v", out.GetManagedFields())
	}
	before := c.state.Revision()
	if _, created, err = c.apply("one", "cm", manifest("a: x, b: w"), false); err != nil || created || c.state.Revision() != before {
		t.Errorf("applying the same again: created %v, revision %d of %d, %v", created, c.state.Revision(), before, err)
	}
	_, _, err = c.apply("two", "cm", manifest("a: z"), false)
	status := wantStatus(t, err, metav1.StatusReasonConflict, `Apply failed with 1 conflict: conflict with "one": .data.a`)
	if !apierrors.HasStatusCause(status, metav1.CauseTypeFieldManagerConflict) {
		t.Errorf("causes %v", status.ErrStatus.Details.Causes)
	}
	if _, _, err = c.apply("two", "cm", manifest("a: z"), true); err != nil {
		t.Fatal(err)
	}
	// What a manager no longer applies, and nobody else owns, goes.
	out, _, err = c.apply("one", "cm", manifest(""), false)
	if err != nil {
		t.Fatal(err)
	}
	if data := out.(*corev1.ConfigMap).Data; len(data) != 1 || data["a"] != "z" {
		t.Errorf("data %v", data)
	}
	_, _, err = c.apply("one", "cm", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: cm}\nspecs: {}\n", false)
	if err == nil || !strings.Contains(err.Error(), "field not declared in schema") {
		t.Errorf("unknown field: %v", err)
	}
	_, _, err = c.apply("", "cm", manifest(""), false)
	wantStatus(t, err, metav1.StatusReasonInvalid, "fieldManager: Required value: is required for apply patch")
}

func TestApplyStatusIsApart(t *testing.T) {
	c := newCluster(t)
	c.create(kind.Deployment, deployment("d", 1))
	req := to(kind.Deployment, "default", "d")
	req.Subresource = "status"
	out, _, err := c.Apply(context.Background(), req, api.Patch{
		Type:  types.ApplyPatchType,
		Data:  []byte("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {replicas: 9}\nstatus: {replicas: 4}\n"),
		Force: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	if d := asDeployment(out); d.Status.Replicas != 4 || *d.Spec.Replicas != 1 {
		t.Errorf("status %d, spec %d", d.Status.Replicas, *d.Spec.Replicas)
	}
	req.Name = "missing"
	_, _, err = c.Apply(context.Background(), req, api.Patch{Data: []byte("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: missing}\n")})
	wantStatus(t, err, metav1.StatusReasonNotFound, "")
}

// What a patch makes of an object may not be one of another type.
func TestPatchKeepsTheType(t *testing.T) {
	c := newCluster(t)
	c.create(kind.ConfigMap, configMap("cm", "a", "1"))
	for data, want := range map[string]string{
		`{"apiVersion":"v9"}`: `no kind "ConfigMap" is registered for version "v9" in scheme`,
		`{"kind":"Secret"}`:   "converting (v1.Secret) to (core.ConfigMap): unknown conversion",
		`{"kind":5}`:          "couldn't get version/kind; json parse error: json: cannot unmarshal number into Go struct field .kind of type string",
	} {
		_, err := c.patch(kind.ConfigMap, "cm", types.MergePatchType, data)
		wantStatus(t, err, metav1.StatusReasonInvalid, want)
	}
	if _, err := c.patch(kind.ConfigMap, "cm", types.MergePatchType, `{"kind":null}`); err != nil {
		t.Errorf("without a kind: %v", err)
	}
	for _, none := range []string{`null`, `""`, `"/"`} {
		_, err := c.patch(kind.ConfigMap, "cm", types.MergePatchType, `{"apiVersion":`+none+`}`)
		wantStatus(t, err, metav1.StatusReasonBadRequest, "the name of the object (cm based on URL) was undeterminable: name must be provided")
	}
	_, err := c.patch(kind.ConfigMap, "cm", types.MergePatchType, `{"apiVersion":"","kind":"Pod"}`)
	wantStatus(t, err, metav1.StatusReasonInvalid, "converting (core.Pod) to (core.ConfigMap): unknown conversion")
	_, err = c.patch(kind.ConfigMap, "cm", types.MergePatchType, `{"apiVersion":"/","kind":"None"}`)
	wantStatus(t, err, metav1.StatusReasonInvalid, `no kind "None" is registered for the internal version of group "" in scheme`)
	_, err = c.patch(kind.ConfigMap, "cm", types.JSONPatchType, `{}`)
	wantStatus(t, err, metav1.StatusReasonBadRequest, "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp")
	_, err = c.patch(kind.ConfigMap, "cm", types.MergePatchType, `{"metadata":{"uid":"another"}}`)
	wantStatus(t, err, metav1.StatusReasonInvalid, "metadata.uid: Invalid value")
	_, err = c.patch(kind.ConfigMap, "cm", types.MergePatchType, `{"metadata":{"resourceVersion":"x"}}`)
	wantStatus(t, err, metav1.StatusReasonUnknown, `strconv.ParseUint: parsing "x": invalid syntax`)
}

// Duplicate and unknown fields of the patch itself are told apart from those of the
// object.
func TestPatchesAreReadStrictly(t *testing.T) {
	c := newCluster(t)
	c.create(kind.ConfigMap, configMap("cm", "a", "1"))
	for format, data := range map[types.PatchType]string{
		types.JSONPatchType:  `[{"op":"add","path":"/data/b","value":"2","extra":1}]`,
		types.MergePatchType: `{"data":{"b":"2","b":"3"}}`,
	} {
		req := c.as("one", kind.ConfigMap, "cm")
		var warnings []string
		req.Warn = func(text string) { warnings = append(warnings, text) }
		want := map[types.PatchType]string{types.JSONPatchType: `json patch unknown field "[0].extra"`, types.MergePatchType: `duplicate field "data.b"`}[format]
		if _, err := c.Patch(context.Background(), req, api.Patch{Type: format, Data: []byte(data)}); err != nil || len(warnings) != 1 || warnings[0] != want {
			t.Errorf("%s: warnings %q, %v", format, warnings, err)
		}
		_, err := c.Patch(context.Background(), req, api.Patch{Type: format, Data: []byte(data), FieldValidation: metav1.FieldValidationStrict})
		wantStatus(t, err, metav1.StatusReasonInvalid, "strict decoding error: "+want)
	}
}

// A patch of what is not there, or cannot be, is not read at all.
func TestPatchNothing(t *testing.T) {
	c := newCluster(t)
	for name, want := range map[string]metav1.StatusReason{"none": metav1.StatusReasonNotFound, "..": metav1.StatusReasonBadRequest} {
		_, err := c.patch(kind.ConfigMap, name, types.MergePatchType, `{"metadata":`)
		text := "not found"
		if want == metav1.StatusReasonBadRequest {
			text = "Name parameter invalid"
		}
		wantStatus(t, err, want, text)
		_, err = c.PatchScale(context.Background(), to(kind.Deployment, "default", name), api.Patch{Type: types.MergePatchType, Data: []byte("{")})
		wantStatus(t, err, want, text)
	}
	_, _, err := c.Apply(context.Background(), to(kind.ConfigMap, "default", ".."), api.Patch{Data: []byte("a: b: c")})
	wantStatus(t, err, metav1.StatusReasonBadRequest, "Name parameter invalid")
}
