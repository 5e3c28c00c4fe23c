package api_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skiff-sh/skiff/internal/api"
	"github.com/skiff-sh/skiff/internal/kind"
)

// record shows who owns what: "MANAGER OPERATION[/SUBRESOURCE] FIELDS".
func record(obj metav1.Object) []string {
	var all []string
	for _, m := range obj.GetManagedFields() {
		operation := string(m.Operation)
		if m.Subresource != "" {
			operation += "/" + m.Subresource
		}
		all = append(all, fmt.Sprintf("%s %s %s", m.Manager, operation, m.FieldsV1.GetRawString()))
	}
	slices.Sort(all)
	return all
}

func wantRecord(t *testing.T, obj metav1.Object, want ...string) {
	t.Helper()
	if got := record(obj); !slices.Equal(got, want) {
		t.Errorf("record:\n\t%s\nwant:\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

func (c *cluster) as(manager string, k *kind.Kind, name string) api.Request {
	req := to(k, "default", name)
	req.FieldManager = manager
	return req
}

func (c *cluster) mergeAs(manager string, k *kind.Kind, name, patch string) kind.Object {
	c.t.Helper()
	out, err := c.Patch(context.Background(), c.as(manager, k, name), api.Patch{Type: types.MergePatchType, Data: []byte(patch)})
	if err != nil {
		c.t.Fatal(err)
	}
	return out
}

func TestEveryWriteIsOnRecord(t *testing.T) {
	c := newCluster(t)
	cm := configMap("cm", "a", "1", "b", "2")
	cm.Labels = map[string]string{"l": "1"}
	out, err := c.Create(context.Background(), c.as("one", kind.ConfigMap, ""), cm)
	if err != nil {
		t.Fatal(err)
	}
	wantRecord(t, out, `one Update {"f:data":{".":{},"f:a":{},"f:b":{}},"f:metadata":{"f:labels":{".":{},"f:l":{}}}}`)
	if at := out.GetManagedFields()[0].Time; at == nil || at.Nanosecond() != 0 {
		t.Errorf("time %v", at)
	}

	out = c.mergeAs("two", kind.ConfigMap, "cm", `{"data":{"a":"9","c":"3"}}`)
	wantRecord(t, out,
		`one Update {"f:data":{".":{},"f:b":{}},"f:metadata":{"f:labels":{".":{},"f:l":{}}}}`,
		`two Update {"f:data":{"f:a":{},"f:c":{}}}`)

	out = c.mergeAs("one", kind.ConfigMap, "cm", `{"data":{"a":null},"metadata":{"labels":null}}`)
	wantRecord(t, out,
		`one Update {"f:data":{".":{},"f:b":{}}}`,
		`two Update {"f:data":{"f:c":{}}}`)
}

func TestNothingNewKeepsTheRecord(t *testing.T) {
	c := newCluster(t)
	c.create(kind.ConfigMap, configMap("cm", "a", "1"))
	before := c.state.Revision()
	c.mergeAs("another", kind.ConfigMap, "cm", `{"data":{"a":"1"}}`)
	if c.state.Revision() != before {
		t.Error("a patch that changes nothing was stored")
	}
}

func TestRecordsTakeResetsAndCorrections(t *testing.T) {
	c := newCluster(t)
	c.create(kind.ConfigMap, configMap("cm", "a", "1"))
	out := c.mergeAs("two", kind.ConfigMap, "cm", `{"metadata":{"managedFields":[{"manager":"three","operation":"Apply","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{"f:data":{"f:a":{}}}}]}}`)
	wantRecord(t, out, `three Apply {"f:data":{"f:a":{}}}`)
	out = c.mergeAs("two", kind.ConfigMap, "cm", `{"metadata":{"managedFields":[{"operation":"nonsense"}]}}`)
	wantRecord(t, out, `three Apply {"f:data":{"f:a":{}}}`)
	out = c.mergeAs("two", kind.ConfigMap, "cm", `{"metadata":{"managedFields":[{}]}}`)
	wantRecord(t, out)
	c.create(kind.ConfigMap, configMap("dm", "a", "1"))
	wantRecord(t, c.mergeAs("two", kind.ConfigMap, "dm", `{"metadata":{"managedFields":[]}}`))
	// Objects without a record begin one with the first apply.
	if out = c.mergeAs("two", kind.ConfigMap, "cm", `{"data":{"b":"2"}}`); len(out.GetManagedFields()) != 0 {
		t.Errorf("an update began a record: %v", record(out))
	}
	out, _, err := c.apply("four", "cm", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: cm}\ndata: {a: '1'}\n", false)
	if err != nil {
		t.Fatal(err)
	}
	wantRecord(t, out, `before-first-apply Update {"f:data":{".":{},"f:a":{},"f:b":{}}}`, `four Apply {"f:data":{"f:a":{}}}`)
}

func TestApplyOverWhatWasThere(t *testing.T) {
	c := newCluster(t)
	c.create(kind.ConfigMap, configMap("cm", "a", "1", "b", "2"))
	yaml := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: cm}\ndata: {a: '9'}\n"
	_, _, err := c.apply("one", "cm", yaml, false)
	wantStatus(t, err, metav1.StatusReasonConflict, `Apply failed with 1 conflict: conflict with "test" using v1: .data.a`)
	out, _, err := c.apply("one", "cm", yaml, true)
	if err != nil {
		t.Fatal(err)
	}
	wantRecord(t, out, `one Apply {"f:data":{"f:a":{}}}`, `test Update {"f:data":{".":{},"f:b":{}}}`)
}

// What a subresource leaves as it is belongs to nobody for that, except with
// ephemeralcontainers: upstream's records them as if they were changed.
func TestSubresourcesOwnWhatTheySend(t *testing.T) {
	c := newCluster(t)
	c.create(kind.Pod, pod("p"))
	for subresource, want := range map[string]string{
		"status":              `two Update/status {"f:status":{"f:message":{}}}`,
		"ephemeralcontainers": `two Update/ephemeralcontainers {"f:spec":{"f:hostname":{}},"f:status":{"f:message":{}}}`,
	} {
		req := c.as("two", kind.Pod, "p")
		req.Subresource, req.DryRun = subresource, true
		out, err := c.Patch(context.Background(), req, api.Patch{Type: types.MergePatchType, Data: []byte(`{"spec":{"hostname":"h"},"status":{"message":"m"}}`)})
		if err != nil {
			t.Fatal(err)
		}
		if got := record(out); !slices.Contains(got, want) {
			t.Errorf("%s: record %q, want %q", subresource, got, want)
		}
	}
}

// Kubectl may take over on the server, without a conflict, what it applied by
// itself before.
func TestApplyAfterClientSideApply(t *testing.T) {
	c := newCluster(t)
	cm := configMap("cm", "a", "1")
	cm.Annotations = map[string]string{
		corev1.LastAppliedConfigAnnotation: `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"cm","namespace":"default"},"data":{"a":"1"}}`,
	}
	if _, err := c.Create(context.Background(), c.as("kubectl-client-side-apply", kind.ConfigMap, ""), cm); err != nil {
		t.Fatal(err)
	}
	yaml := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: cm}\ndata: {a: '2'}\n"
	_, _, err := c.apply("other", "cm", yaml, false)
	wantStatus(t, err, metav1.StatusReasonConflict, `conflict with "kubectl-client-side-apply" using v1: .data.a`)
	out, _, err := c.apply("kubectl", "cm", yaml, false)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.GetAnnotations()[corev1.LastAppliedConfigAnnotation], `"a":"2"`) {
		t.Errorf("annotation %v", out.GetAnnotations())
	}
	wantRecord(t, out,
		`kubectl Apply {"f:data":{"f:a":{}}}`,
		`kubectl-client-side-apply Update {"f:data":{},"f:metadata":{"f:annotations":{".":{},"f:kubectl.kubernetes.io/last-applied-configuration":{}}}}`)
}

func TestApplyRefuses(t *testing.T) {
	c := newCluster(t)
	c.create(kind.ConfigMap, configMap("cm", "a", "1"))
	head := "apiVersion: v1\nkind: ConfigMap\n"
	tests := map[string]struct {
		name, yaml string
		reason     metav1.StatusReason
		text       string
	}{
		"no YAML":          {"cm", "a: b: c", metav1.StatusReasonBadRequest, "error decoding YAML: "},
		"another kind":     {"cm", "apiVersion: v1\nkind: Secret\nmetadata: {name: cm}\n", metav1.StatusReasonBadRequest, "invalid object type: /v1, Kind=Secret"},
		"no kind":          {"cm", "metadata: {name: cm}\n", metav1.StatusReasonBadRequest, "invalid object type: /, Kind="},
		"another name":     {"cm", head + "metadata: {name: dm}\n", metav1.StatusReasonBadRequest, "the name of the object (dm) does not match the name on the URL (cm)"},
		"no name, new":     {"dm", head + "data: {a: b}\n", metav1.StatusReasonBadRequest, "the name of the object (dm based on URL) was undeterminable: name must be provided"},
		"another space":    {"cm", head + "metadata: {name: cm, namespace: other}\n", metav1.StatusReasonBadRequest, "the namespace of the provided object does not match the namespace sent on the request"},
		"uid of none":      {"dm", head + "metadata: {name: dm, uid: u}\n", metav1.StatusReasonConflict, "uid mismatch: the provided object specified uid u, and no existing object was found"},
		"a record":         {"cm", head + "metadata: {name: cm, managedFields: [{manager: m}]}\n", metav1.StatusReasonBadRequest, "metadata.managedFields must be nil"},
		"unknown field":    {"cm", head + "metadata: {name: cm}\nspecs: {}\n", metav1.StatusReasonUnknown, "failed to create typed patch object (/cm; /v1, Kind=ConfigMap): .specs: field not declared in schema"},
		"a wrong revision": {"cm", head + "metadata: {name: cm, resourceVersion: '1'}\n", metav1.StatusReasonConflict, "the object has been modified"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, _, err := c.apply("one", test.name, test.yaml, true)
			wantStatus(t, err, test.reason, test.text)
		})
	}
}

func TestApplyKeepsWholeNumbers(t *testing.T) {
	c := newCluster(t)
	for _, number := range []string{"9007199254740993", "9223372036854775807"} {
		yaml := "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {activeDeadlineSeconds: " + number + ", containers: [{name: c, image: i}]}\n"
		_, _, err := c.Apply(context.Background(), c.as("one", kind.Pod, "p"), api.Patch{Type: types.ApplyYAMLPatchType, Data: []byte(yaml)})
		wantStatus(t, err, metav1.StatusReasonInvalid, "Invalid value: "+number+": must be between 1 and 2147483647, inclusive")
	}
}

// An object whose items cannot be told apart has no record, and nobody can apply it.
func TestApplyToItemsWithoutKeys(t *testing.T) {
	c := newCluster(t)
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "sa", Namespace: "default"}, Secrets: []corev1.ObjectReference{{}}}
	wantRecord(t, c.create(kind.ServiceAccount, account))
	patch := api.Patch{Type: types.ApplyYAMLPatchType, Data: []byte("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: sa}\n")}
	_, _, err := c.Apply(context.Background(), c.as("one", kind.ServiceAccount, "sa"), patch)
	wantStatus(t, err, metav1.StatusReasonUnknown, "failed to create manager for existing fields: "+
		`failed to convert new object (default/sa; /v1, Kind=ServiceAccount) to smd typed: .secrets: element 0: associative list with keys has an element that omits all key fields ["name"]`)
}

// The record of a template is a field like others, and must be one of fields.
func TestRecordsInTemplates(t *testing.T) {
	c := newCluster(t)
	for name, fields := range map[string]string{"good": `{"f:a":{}}`, "bad": `1`} {
		d := deployment(name, 1)
		d.Spec.Template.ManagedFields = []metav1.ManagedFieldsEntry{{FieldsV1: metav1.NewFieldsV1(fields)}}
		c.create(kind.Deployment, d)
		if entries := len(c.get(kind.Deployment, "default", name).GetManagedFields()); entries != map[string]int{"good": 1, "bad": 0}[name] {
			t.Errorf("%s: %d entries", name, entries)
		}
	}
}

// A part of an object that is not there is refused for what is wrong with it first,
// where the whole would be created.
func TestPartsOfNothing(t *testing.T) {
	c := newCluster(t)
	req := c.as("one", kind.Service, "s")
	req.Subresource = "status"
	head := "apiVersion: v1\nkind: Service\nmetadata: "
	for yaml, want := range map[string]string{
		"apiVersion: v1\nkind: Pod\nmetadata: {name: s}\n":                 "invalid object type: /v1, Kind=Pod",
		head + "{name: s}\nstatus: {a: b}\n":                               ".status.a: field not declared in schema",
		head + "{name: t}\n":                                               "the name of the object (t) does not match the name on the URL (s)",
		head + "{name: s, uid: u}\n":                                       "uid mismatch: the provided object specified uid u, and no existing object was found",
		head + "{name: s}\nspec: {clusterIP: None, ports: [{port: 80}]}\n": "spec.clusterIPs: Required value",
		head + "{name: s}\nspec: {ports: [{port: 80}]}\n":                  `services "s" not found`,
	} {
		_, _, err := c.Apply(context.Background(), req, api.Patch{Type: types.ApplyYAMLPatchType, Data: []byte(yaml)})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", yaml, err, want)
		}
	}
	_, err := c.Update(context.Background(), req, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "s", UID: "u"}})
	wantStatus(t, err, metav1.StatusReasonConflict, "Precondition failed: UID in precondition: u, UID in object meta: ")
	_, err = c.Update(context.Background(), req, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "s"}, Spec: service("s").Spec})
	wantStatus(t, err, metav1.StatusReasonNotFound, `services "s" not found`)
}

// What is written in another way than it is stored is not changed by who sends it as
// it is stored.
func TestRecordsCompareWhatIsStored(t *testing.T) {
	c := newCluster(t)
	c.create(kind.Pod, pod("p"))
	status := func(manager, patch string) kind.Object {
		req := c.as(manager, kind.Pod, "p")
		req.Subresource = "status"
		out, err := c.Patch(context.Background(), req, api.Patch{Type: types.MergePatchType, Data: []byte(patch)})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	status("one", `{"status":{"containerStatuses":[{"name":"c","resources":{"requests":{"cpu":null,"memory":"1000m","huge":"9999999999999999999"}},"volumeMounts":[]}]}}`)
	if got := record(status("two", `{"status":{"message":"m"}}`)); !slices.Contains(got, `one Update/status {"f:status":{"f:containerStatuses":{}}}`) {
		t.Errorf("record %q", got)
	}
}

func TestApplyComplainsOfDuplicates(t *testing.T) {
	c := newCluster(t)
	patch := api.Patch{Type: types.ApplyYAMLPatchType, Data: []byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: cm}\ndata: {a: x, a: z}\n")}
	req := c.as("one", kind.ConfigMap, "cm")
	var warnings []string
	req.Warn = func(text string) { warnings = append(warnings, text) }
	if _, _, err := c.Apply(context.Background(), req, patch); err != nil || len(warnings) != 1 || warnings[0] != `line 4: key "a" already set in map` {
		t.Errorf("warnings %q, %v", warnings, err)
	}
	patch.FieldValidation = metav1.FieldValidationStrict
	_, _, err := c.Apply(context.Background(), req, patch)
	wantStatus(t, err, metav1.StatusReasonBadRequest, "error strict decoding YAML: ")
}

// Who scales owns the replicas and nothing else, under the subresource's name.
func TestScaleIsOnRecord(t *testing.T) {
	c := newCluster(t)
	c.create(kind.Deployment, deployment("d", 1))
	req := c.as("scaler", kind.Deployment, "d")
	req.Subresource = "scale"
	if _, err := c.PatchScale(context.Background(), req, api.Patch{Type: types.MergePatchType, Data: []byte(`{"spec":{"replicas":3}}`)}); err != nil {
		t.Fatal(err)
	}
	got := record(c.get(kind.Deployment, "default", "d"))
	if len(got) != 2 || got[0] != `scaler Update/scale {"f:spec":{"f:replicas":{}}}` || strings.Contains(got[1], `"f:replicas"`) {
		t.Errorf("record %q", got)
	}
	apply := api.Patch{Type: types.ApplyYAMLPatchType, Data: []byte("apiVersion: autoscaling/v1\nkind: Scale\nmetadata: {name: d}\nspec: {replicas: 5}\n")}
	req.FieldManager = "applier"
	_, err := c.PatchScale(context.Background(), req, apply)
	wantStatus(t, err, metav1.StatusReasonConflict, `Apply failed with 1 conflict: conflict with "scaler" with subresource "scale" using autoscaling/v1: .spec.replicas`)
	apply.Force = true
	scale, err := c.PatchScale(context.Background(), req, apply)
	if err != nil || scale.Spec.Replicas != 5 {
		t.Fatalf("scale %+v, %v", scale, err)
	}
	got = record(c.get(kind.Deployment, "default", "d"))
	if len(got) != 2 || got[0] != `applier Apply/scale {"f:spec":{"f:replicas":{}}}` {
		t.Errorf("record %q", got)
	}
	_, err = c.UpdateScale(context.Background(), req, &autoscalingv1.Scale{ObjectMeta: metav1.ObjectMeta{Name: "e"}})
	wantStatus(t, err, metav1.StatusReasonBadRequest, "the name of the object (e) does not match the name on the URL (d)")
}

// A Scale has its own metadata, of which nothing is kept.
func TestScalesOfOwnersThatComeTwice(t *testing.T) {
	c := newCluster(t)
	c.create(kind.Deployment, deployment("d", 1))
	req := c.as("scaler", kind.Deployment, "d")
	var warnings []string
	req.Warn = func(text string) { warnings = append(warnings, text) }
	owner := `{"apiVersion":"v1","kind":"K","name":"n","uid":"u"}`
	patch := api.Patch{Type: types.MergePatchType, Data: []byte(`{"metadata":{"ownerReferences":[` + owner + `,` + owner + `]}}`)}
	if _, err := c.PatchScale(context.Background(), req, patch); err != nil {
		t.Fatal(err)
	}
	one := metav1.OwnerReference{APIVersion: "v1", Kind: "K", Name: "n", UID: "u"}
	scale := &autoscalingv1.Scale{ObjectMeta: metav1.ObjectMeta{Name: "d", OwnerReferences: []metav1.OwnerReference{one, one}}}
	if _, err := c.UpdateScale(context.Background(), req, scale); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"duplicate entries after mutating admission happens; ", "duplicate entries; "} {
		if len(warnings) != 2 || !strings.Contains(warnings[i], want) {
			t.Errorf("warnings %q, want %q", warnings, want)
		}
	}
}

// To who speaks of an object in another group, the fields that are owned in the
// first one are nobody's, as upstream has it.
func TestRecordsOfOtherGroups(t *testing.T) {
	c := newCluster(t)
	event := &corev1.Event{ObjectMeta: metav1.ObjectMeta{Name: "e", Namespace: "default"}, Reason: "R", InvolvedObject: corev1.ObjectReference{Namespace: "default"}}
	c.create(kind.Event, event)
	face := &kind.Event.Faces[0]
	req := c.as("two", kind.Event, "e")
	req.Face = face
	out, err := c.Patch(context.Background(), req, api.Patch{Type: types.MergePatchType, Data: []byte(`{"metadata":{"labels":{"a":"b"}}}`)})
	if err != nil {
		t.Fatal(err)
	}
	wantRecord(t, out, `two Update {"f:metadata":{"f:labels":{".":{},"f:a":{}}}}`)
}
