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

// sameErrors compares a list with the texts expected, in order. That an object
// made for a test has no name and no version counts only where it is expected.
func sameErrors(t *testing.T, got field.ErrorList, want ...string) {
	t.Helper()
	var texts []string
	w := strings.Join(want, "\n")
	for _, e := range got {
		unmade := e.Type == field.ErrorTypeRequired && e.Field == "metadata.name" ||
			e.Type == field.ErrorTypeInvalid && e.Field == "metadata.resourceVersion" && e.BadValue == ""
		if !unmade || strings.Contains(w, e.Field) {
			texts = append(texts, e.Error())
		}
	}
	g := strings.Join(texts, "\n")
	if g != w {
		t.Errorf("errors:\n%s\nwant:\n%s", g, w)
	}
}

const nameRule = `a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')`

const labelRule = `a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')`

// TestNewMeta creates ServiceAccounts, which have no rules but those of metadata,
// except where a rule is another kind's.
func TestNewMeta(t *testing.T) {
	yes := true
	owner := func(change func(*metav1.OwnerReference)) []metav1.OwnerReference {
		o := metav1.OwnerReference{APIVersion: "v1", Kind: "A", Name: "a", UID: "1"}
		change(&o)
		return []metav1.OwnerReference{o}
	}
	cases := []struct {
		name string
		kind *Kind
		meta metav1.ObjectMeta
		want []string
	}{
		{"good", ServiceAccount, metav1.ObjectMeta{Name: "web.0", Namespace: "default"}, nil},
		{"no name", ServiceAccount, metav1.ObjectMeta{Namespace: "b"}, []string{"metadata.name: Required value: name or generateName is required"}},
		{"no namespace", ServiceAccount, metav1.ObjectMeta{Name: "a"}, []string{"metadata.namespace: Required value"}},
		{"namespace on a cluster kind", Namespace, metav1.ObjectMeta{Name: "a", Namespace: "b"}, []string{"metadata.namespace: Forbidden: not allowed on this type"}},
		{"upper-case name", ServiceAccount, metav1.ObjectMeta{Name: "Web", Namespace: "b"}, []string{`metadata.name: Invalid value: "Web": ` + nameRule}},
		{"name for a path", Event, metav1.ObjectMeta{Name: "a/b", Namespace: "b"}, []string{`metadata.name: Invalid value: "a/b": may not contain '/'`}},
		{"name of what nobody looks at", Event, metav1.ObjectMeta{Name: "A b", Namespace: "b"}, nil},
		{"upper-case prefix", ServiceAccount, metav1.ObjectMeta{Name: "web-abcde", GenerateName: "Web-", Namespace: "b"}, []string{`metadata.generateName: Invalid value: "Web-": ` + nameRule}},
		{"negative generation", ServiceAccount, metav1.ObjectMeta{Name: "a", Namespace: "b", Generation: -1}, []string{
			"metadata.generation: Invalid value: -1: must be greater than or equal to 0"}},
		{"label value", ServiceAccount, metav1.ObjectMeta{Name: "a", Namespace: "b", Labels: map[string]string{"a": "-"}}, []string{`metadata.labels: Invalid value: "-": ` + labelRule}},
		{"annotations too big", ServiceAccount, metav1.ObjectMeta{Name: "a", Namespace: "b", Annotations: map[string]string{"a": strings.Repeat("x", 256<<10)}}, []string{
			"metadata.annotations: Too long: may not be more than 262144 bytes"}},
		{"annotation in capitals", ServiceAccount, metav1.ObjectMeta{Name: "a", Namespace: "b", Annotations: map[string]string{"A.B/c": ""}}, nil},
		{"finalizers in conflict", ServiceAccount, metav1.ObjectMeta{Name: "a", Namespace: "b", Finalizers: []string{"orphan", "foregroundDeletion"}}, []string{
			`metadata.finalizers: Invalid value: ["orphan","foregroundDeletion"]: finalizer orphan and foregroundDeletion cannot be both set`}},
		{"short finalizer", ServiceAccount, metav1.ObjectMeta{Name: "a", Namespace: "b", Finalizers: []string{"kubernetes", "mine"}}, []string{
			`metadata.finalizers[1]: Invalid value: "mine": name is neither a standard finalizer name nor is it fully qualified`}},
		{"short finalizer of a Lease", Lease, metav1.ObjectMeta{Name: "a", Namespace: "b", Finalizers: []string{"mine"}}, nil},
		{"owner without version", ServiceAccount, metav1.ObjectMeta{Name: "a", Namespace: "b", OwnerReferences: owner(func(o *metav1.OwnerReference) { o.APIVersion = "" })}, []string{
			`metadata.ownerReferences.apiVersion: Invalid value: "": version must not be empty`}},
		{"owner without the rest", ServiceAccount, metav1.ObjectMeta{Name: "a", Namespace: "b", OwnerReferences: owner(func(o *metav1.OwnerReference) { o.Kind, o.Name, o.UID = "", "", "" })}, []string{
			`metadata.ownerReferences.kind: Invalid value: "": must not be empty`, `metadata.ownerReferences.name: Invalid value: "": must not be empty`, `metadata.ownerReferences.uid: Invalid value: "": must not be empty`}},
		{"owned by an Event", ServiceAccount, metav1.ObjectMeta{Name: "a", Namespace: "b", OwnerReferences: owner(func(o *metav1.OwnerReference) { o.Kind = "Event" })}, []string{
			`metadata.ownerReferences: Invalid value: {"apiVersion":"v1","kind":"Event","name":"a","uid":"1"}: /v1, Kind=Event is disallowed from being an owner`}},
		{"two controllers", ServiceAccount, metav1.ObjectMeta{Name: "a", Namespace: "b", OwnerReferences: []metav1.OwnerReference{
			{APIVersion: "v1", Kind: "A", Name: "a", UID: "1", Controller: &yes},
			{APIVersion: "v1", Kind: "B", Name: "b", UID: "2", Controller: &yes},
		}}, []string{`metadata.ownerReferences: Invalid value: [{"apiVersion":"v1","kind":"A","name":"a","uid":"1","controller":true},{"apiVersion":"v1","kind":"B","name":"b","uid":"2","controller":true}]: Only one reference can have Controller set to true. Found "true" in references for A/a and B/b`}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			obj := c.kind.New()
			*obj.(interface{ GetObjectMeta() metav1.Object }).GetObjectMeta().(*metav1.ObjectMeta) = c.meta
			if event, ok := obj.(*corev1.Event); ok {
				event.InvolvedObject.Namespace = event.Namespace
			}
			sameErrors(t, CreateErrors(c.kind, nil, obj), c.want...)
		})
	}
}

// TestMetaUpdate has a fault once from the rules that all kinds share, or twice,
// and then from those of the ServiceAccount.
func TestMetaUpdate(t *testing.T) {
	now := metav1.NewTime(time.Unix(1700000000, 0))
	old := metav1.ObjectMeta{Name: "a", Namespace: "b", UID: "u", ResourceVersion: "7", Generation: 2, CreationTimestamp: now, Labels: map[string]string{"a": "b"}}
	dying := old
	dying.DeletionTimestamp = &now
	prefixed := old // as only a part's rules let it become
	prefixed.GenerateName = "AB-"
	const version = `metadata.resourceVersion: Invalid value: "": must be specified for an update`
	cases := []struct {
		name   string
		old    metav1.ObjectMeta
		change func(*metav1.ObjectMeta)
		want   []string
	}{
		{"nothing", old, func(*metav1.ObjectMeta) {}, nil},
		{"good label", old, func(m *metav1.ObjectMeta) { m.Labels = map[string]string{"c": "d"} }, nil},
		{"name", old, func(m *metav1.ObjectMeta) { m.Name = "c" }, twice(`metadata.name: Invalid value: "c": field is immutable`)},
		{"namespace", old, func(m *metav1.ObjectMeta) { m.Namespace = "c" }, twice(`metadata.namespace: Invalid value: "c": field is immutable`)},
		{"uid", old, func(m *metav1.ObjectMeta) { m.UID = "c" }, twice(`metadata.uid: Invalid value: "c": field is immutable`)},
		{"generation", old, func(m *metav1.ObjectMeta) { m.Generation = 1 }, twice("metadata.generation: Invalid value: 1: must not be decremented")},
		{"no version", old, func(m *metav1.ObjectMeta) { m.ResourceVersion = "" }, twice(version)},
		{"deleted by hand", old, func(m *metav1.ObjectMeta) { m.DeletionTimestamp = &now }, twice(`metadata.deletionTimestamp: Invalid value: "2023-11-14T22:13:20Z": field is immutable`)},
		{"grace by hand", old, func(m *metav1.ObjectMeta) { m.DeletionGracePeriodSeconds = ptr(int64(3)) }, twice(`metadata.deletionGracePeriodSeconds: Invalid value: 3: field is immutable`)},
		{"label", old, func(m *metav1.ObjectMeta) { m.Labels = map[string]string{"a": "-"} }, append(twice(`metadata.labels: Invalid value: "-": `+labelRule), twice(`metadata.labels: Invalid value: "-": `+labelRule)...)},
		{"prefix", old, func(m *metav1.ObjectMeta) { m.GenerateName = "AB-" }, []string{`metadata.generateName: Invalid value: "AB-": ` + nameRule}},
		{"prefix of before", prefixed, func(*metav1.ObjectMeta) {}, []string{`metadata.generateName: Invalid value: "AB-": ` + nameRule}},
		{"short finalizer", old, func(m *metav1.ObjectMeta) { m.Finalizers = []string{"mine"} }, twice(
			`metadata.finalizers[0]: Invalid value: "mine": name is neither a standard finalizer name nor is it fully qualified`)},
		{"finalizer while deleted", dying, func(m *metav1.ObjectMeta) { m.Finalizers = []string{"x/y"} }, twice(
			`metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{"x/y"}`)},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			obj := &corev1.ServiceAccount{ObjectMeta: *c.old.DeepCopy()}
			c.change(&obj.ObjectMeta)
			sameErrors(t, UpdateErrors(ServiceAccount, nil, nil, obj, &corev1.ServiceAccount{ObjectMeta: c.old}), c.want...)
		})
	}
}

func twice(text string) []string { return []string{text, text} }

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
