package kind

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// sameErrors compares a list with the texts expected, in order.
func sameErrors(t *testing.T, got field.ErrorList, want ...string) {
	t.Helper()
	var texts []string
	for _, e := range got {
		texts = append(texts, e.Error())
	}
	g, w := strings.Join(texts, "\n"), strings.Join(want, "\n")
	if g != w {
		t.Errorf("errors:\n%s\nwant:\n%s", g, w)
	}
}

func TestValidateMeta(t *testing.T) {
	yes := true
	cases := []struct {
		name string
		kind *Kind
		meta metav1.ObjectMeta
		want []string
	}{
		{"good", Pod, metav1.ObjectMeta{Name: "web-0", Namespace: "default"}, nil},
		{"no name", Pod, metav1.ObjectMeta{Namespace: "default"}, []string{"metadata.name: Required value: name or generateName is required"}},
		{"no namespace", Pod, metav1.ObjectMeta{Name: "a"}, []string{"metadata.namespace: Required value"}},
		{"namespace on a cluster kind", Node, metav1.ObjectMeta{Name: "a", Namespace: "b"}, []string{"metadata.namespace: Forbidden: not allowed on this type"}},
		{"upper-case name", Pod, metav1.ObjectMeta{Name: "Web", Namespace: "default"}, []string{
			`metadata.name: Invalid value: "Web": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')`}},
		{"label value", Pod, metav1.ObjectMeta{Name: "a", Namespace: "b", Labels: map[string]string{"a": "-"}}, []string{
			`metadata.labels: Invalid value: "-": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')`}},
		{"annotations too big", Pod, metav1.ObjectMeta{Name: "a", Namespace: "b", Annotations: map[string]string{"a": strings.Repeat("x", 256<<10)}}, []string{
			"metadata.annotations: Too long: may not be more than 262144 bytes"}},
		{"finalizers in conflict", Pod, metav1.ObjectMeta{Name: "a", Namespace: "b", Finalizers: []string{"orphan", "foregroundDeletion"}}, []string{
			`metadata.finalizers: Invalid value: ["orphan","foregroundDeletion"]: finalizer orphan and foregroundDeletion cannot be both set`}},
		{"short finalizer", Pod, metav1.ObjectMeta{Name: "a", Namespace: "b", Finalizers: []string{"kubernetes", "mine"}}, []string{
			`metadata.finalizers[1]: Invalid value: "mine": name is neither a standard finalizer name nor is it fully qualified`}},
		{"two controllers", Pod, metav1.ObjectMeta{Name: "a", Namespace: "b", OwnerReferences: []metav1.OwnerReference{
			{APIVersion: "v1", Kind: "A", Name: "a", UID: "1", Controller: &yes},
			{APIVersion: "v1", Kind: "B", Name: "b", UID: "2", Controller: &yes},
		}}, []string{`metadata.ownerReferences: Invalid value: [{"apiVersion":"v1","kind":"A","name":"a","uid":"1","controller":true},{"apiVersion":"v1","kind":"B","name":"b","uid":"2","controller":true}]: Only one reference can have Controller set to true. Found "true" in references for A/a and B/b`}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			obj := &corev1.Pod{ObjectMeta: c.meta}
			sameErrors(t, ValidateMeta(c.kind, obj), c.want...)
		})
	}
}

func TestValidateMetaUpdate(t *testing.T) {
	now := metav1.NewTime(time.Unix(1700000000, 0))
	old := metav1.ObjectMeta{Name: "a", Namespace: "b", UID: "u", ResourceVersion: "7", CreationTimestamp: now}
	dying := old
	dying.DeletionTimestamp = &now
	cases := []struct {
		name   string
		old    metav1.ObjectMeta
		change func(*metav1.ObjectMeta)
		want   []string
	}{
		{"nothing", old, func(*metav1.ObjectMeta) {}, nil},
		{"name", old, func(m *metav1.ObjectMeta) { m.Name = "c" }, []string{`metadata.name: Invalid value: "c": field is immutable`}},
		{"uid", old, func(m *metav1.ObjectMeta) { m.UID = "c" }, []string{`metadata.uid: Invalid value: "c": field is immutable`}},
		{"no version", old, func(m *metav1.ObjectMeta) { m.ResourceVersion = "" }, []string{`metadata.resourceVersion: Invalid value: "": must be specified for an update`}},
		{"finalizer while deleted", dying, func(m *metav1.ObjectMeta) { m.Finalizers = []string{"x/y"} }, []string{
			`metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{"x/y"}`}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			obj := &corev1.Pod{ObjectMeta: *c.old.DeepCopy()}
			c.change(&obj.ObjectMeta)
			sameErrors(t, ValidateMetaUpdate(obj, &corev1.Pod{ObjectMeta: c.old}), c.want...)
		})
	}
}

func TestSchemeKnowsEveryKind(t *testing.T) {
	for _, k := range All {
		if !Scheme().Recognizes(k.GVK()) {
			t.Errorf("scheme lacks %v", k.GVK())
		}
		for _, name := range []string{"WatchEvent", "ListOptions", "DeleteOptions"} {
			if gvk := k.Resource.GroupVersion().WithKind(name); !Scheme().Recognizes(gvk) {
				t.Errorf("scheme lacks %v", gvk)
			}
		}
	}
	for _, gvk := range []schema.GroupVersionKind{
		{Group: "meta.k8s.io", Version: "v1", Kind: "Table"},
		{Group: "meta.k8s.io", Version: "v1", Kind: "PartialObjectMetadataList"},
		{Group: "", Version: "v1", Kind: "Status"},
		{Group: "authentication.k8s.io", Version: "v1", Kind: "TokenRequest"},
		{Group: "authorization.k8s.io", Version: "v1", Kind: "SelfSubjectAccessReview"},
		{Group: "autoscaling", Version: "v1", Kind: "Scale"},
		{Group: "policy", Version: "v1", Kind: "Eviction"},
		{Group: "events.k8s.io", Version: "v1", Kind: "Event"},
	} {
		if !Scheme().Recognizes(gvk) {
			t.Errorf("scheme lacks %v", gvk)
		}
	}
}

func TestUntagged(t *testing.T) {
	volume := corev1.Volume{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: "Memory", SizeLimit: new(resources("a", "1Gi")["a"])}}}
	text, err := json.Marshal(untagged{[]any{volume.EmptyDir, map[string]string{"b": "c", "a": "d"}, []string(nil), true, int32(5)}})
	if err != nil {
		t.Fatal(err)
	}
	want := `[{"Medium":"Memory","SizeLimit":"1Gi"},{"a":"d","b":"c"},null,true,5]`
	if string(text) != want {
		t.Errorf("%s\nwant %s", text, want)
	}
	// What an embedded structure has counts as the outer one's own.
	text, err = json.Marshal(untagged{volume})
	if err != nil {
		t.Fatal(err)
	}
	if got := string(text); !strings.HasPrefix(got, `{"Name":"v","HostPath":null,"EmptyDir":{"Medium":"Memory",`) || !json.Valid(text) {
		t.Errorf("%s", got)
	}
}
