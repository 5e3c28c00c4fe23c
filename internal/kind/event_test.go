package kind

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// newEvent is one as events.k8s.io/v1 wants it, stored.
func newEvent(change ...func(*corev1.Event)) *corev1.Event {
	now, _ := noon()
	e := &corev1.Event{
		TypeMeta:            metav1.TypeMeta{APIVersion: "v1", Kind: "Event"},
		ObjectMeta:          metav1.ObjectMeta{Name: "web.1", Namespace: "ns", Labels: map[string]string{"a": "b"}},
		InvolvedObject:      corev1.ObjectReference{Kind: "Pod", Namespace: "ns", Name: "web", UID: "1", FieldPath: "spec.containers{c}"},
		Reason:              "Scheduled",
		Message:             "Assigned ",
		Type:                "Normal",
		EventTime:           metav1.NewMicroTime(now.Add(-5 * time.Minute)),
		Action:              "Binding",
		ReportingController: "skiff.sh/scheduler",
		ReportingInstance:   "n1",
	}
	for _, c := range change {
		c(e)
	}
	return e
}

func oldEvent(change ...func(*corev1.Event)) *corev1.Event {
	now, _ := noon()
	e := newEvent(func(e *corev1.Event) {
		e.EventTime, e.Action, e.ReportingController, e.ReportingInstance = metav1.MicroTime{}, "", "", ""
		e.Source = corev1.EventSource{Component: "kubelet", Host: "n1"}
		e.FirstTimestamp, e.LastTimestamp, e.Count = metav1.NewTime(now.Add(-10*time.Minute)), metav1.NewTime(now.Add(-30*time.Second)), 3
	})
	for _, c := range change {
		c(e)
	}
	return e
}

// TestEventFaces converts there and back, and makes sure that no field of
// either type was forgotten and no memory is shared.
func TestEventFaces(t *testing.T) {
	stored := newEvent(func(e *corev1.Event) {
		now, _ := noon()
		e.Source, e.Count = corev1.EventSource{Component: "kubelet", Host: "n1"}, 3
		e.FirstTimestamp, e.LastTimestamp = metav1.NewTime(now), metav1.NewTime(now)
		e.Series = &corev1.EventSeries{Count: 2, LastObservedTime: metav1.NewMicroTime(now)}
		e.Related = &corev1.ObjectReference{Name: "r"}
	})
	for i, v := 0, reflect.ValueOf(*stored); i < v.NumField(); i++ {
		if v.Field(i).IsZero() {
			t.Fatalf("the test leaves core/v1 field %s empty", v.Type().Field(i).Name)
		}
	}
	face := Event.Faces[0]
	shown := face.FromStored(stored).(*eventsv1.Event)
	for i, v := 0, reflect.ValueOf(*shown); i < v.NumField(); i++ {
		if v.Field(i).IsZero() {
			t.Errorf("events.k8s.io/v1 field %s is not filled", v.Type().Field(i).Name)
		}
	}
	if shown.Note != "Assigned " || shown.Regarding.Name != "web" || shown.DeprecatedSource.Component != "kubelet" || shown.APIVersion != "events.k8s.io/v1" {
		t.Errorf("%+v", shown)
	}
	before := stored.DeepCopy()
	back := face.ToStored(shown).(*corev1.Event)
	if d := cmp.Diff(stored, back); d != "" {
		t.Error(d)
	}
	shown.Labels["a"], shown.Related.Name, shown.Series.Count = "x", "x", 9
	if d := cmp.Diff(before, stored); d != "" {
		t.Error("memory is shared with the stored object:", d)
	}
	if d := cmp.Diff(before, back); d != "" {
		t.Error("memory is shared with the object converted from:", d)
	}
}

func TestEventValidation(t *testing.T) {
	elsewhere := func(namespace string) func(*corev1.Event) {
		return func(e *corev1.Event) { e.Namespace = namespace }
	}
	ofNode := func(namespace string) func(*corev1.Event) {
		return func(e *corev1.Event) { e.Namespace, e.InvolvedObject.Namespace = namespace, "" }
	}
	long := strings.Repeat("x", 129)
	cases := []struct {
		name string
		e    *corev1.Event
		want []string
	}{
		{"old", oldEvent(), nil},
		{"new", newEvent(), nil},
		{"old, elsewhere", oldEvent(elsewhere("other")), []string{`involvedObject.namespace: Invalid value: "ns": does not match event.namespace`}},
		{"old, of a node", oldEvent(ofNode("default")), nil},
		{"old, of a node, elsewhere", oldEvent(ofNode("kube-system")), []string{`involvedObject.namespace: Invalid value: "": does not match event.namespace`}},
		{"new, elsewhere", newEvent(elsewhere("other")), nil},
		{"new, of a node", newEvent(ofNode("kube-system")), nil},
		{"new, of a node, elsewhere", newEvent(ofNode("ns")), []string{`involvedObject.namespace: Invalid value: "": does not match event.namespace`}},
		{"new, empty", newEvent(func(e *corev1.Event) { e.Action, e.Reason, e.ReportingInstance = "", "", "" }),
			[]string{"reportingInstance: Required value", "action: Required value", "reason: Required value"}},
		{"new, long", newEvent(func(e *corev1.Event) {
			e.Action, e.Reason, e.ReportingInstance, e.Message = long, long, long, strings.Repeat("x", 1025)
		}), []string{
			`reportingInstance: Invalid value: "": can have at most 128 characters`,
			`action: Invalid value: "": can have at most 128 characters`,
			`reason: Invalid value: "": can have at most 128 characters`,
			`message: Invalid value: "": can have at most 1024 characters`,
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			sameErrors(t, Event.Validate(c.e), c.want...)
			sameErrors(t, Event.ValidateUpdate(c.e, c.e), c.want...)
		})
	}
}

func TestNewEventValidation(t *testing.T) {
	face := Event.Faces[0]
	sameErrors(t, face.Validate(newEvent()))
	sameErrors(t, face.Validate(oldEvent(func(e *corev1.Event) { e.Type = "Bad"; e.Series = &corev1.EventSeries{Count: 1} })),
		`series.count: Invalid value: "": should be at least 2`,
		"series.lastObservedTime: Required value",
		"eventTime: Required value",
		`type: Invalid value: "": has invalid value: Bad`,
		`firstTimestamp: Invalid value: "": needs to be unset`,
		`lastTimestamp: Invalid value: "": needs to be unset`,
		`count: Invalid value: "": needs to be unset`,
		`source: Invalid value: "": needs to be unset`)

	now, _ := noon()
	grown := newEvent(func(e *corev1.Event) {
		e.Series = &corev1.EventSeries{Count: 2, LastObservedTime: metav1.NewMicroTime(now)}
	})
	sameErrors(t, face.ValidateUpdate(grown, newEvent()))
	sameErrors(t, face.ValidateUpdate(newEvent(func(e *corev1.Event) { e.Reason, e.Message = "Other", "x" }), newEvent()),
		`reason: Invalid value: "Other": field is immutable`, `message: Invalid value: "x": field is immutable`, `reason: Invalid value: "Other": field is immutable`)
	sameErrors(t, face.ValidateUpdate(newEvent(func(e *corev1.Event) {
		e.InvolvedObject.UID, e.Source, e.Related = "2", corev1.EventSource{Host: "h"}, &corev1.ObjectReference{Name: "r"}
	}), newEvent()),
		`involvedObject: Invalid value: {"Kind":"Pod","Namespace":"ns","Name":"web","UID":"2","APIVersion":"","ResourceVersion":"","FieldPath":"spec.containers{c}"}: field is immutable`,
		`source: Invalid value: {"Component":"","Host":"h"}: field is immutable`,
		`related: Invalid value: {"Kind":"","Namespace":"","Name":"r","UID":"","APIVersion":"","ResourceVersion":"","FieldPath":""}: field is immutable`)
	sameErrors(t, face.ValidateUpdate(newEvent(func(e *corev1.Event) { e.EventTime.Time = e.EventTime.Add(time.Nanosecond) }), newEvent()))
	sameErrors(t, face.ValidateUpdate(newEvent(func(e *corev1.Event) { e.EventTime.Time = e.EventTime.Add(time.Microsecond) }), newEvent()),
		`eventTime: Invalid value: "2026-03-01T11:55:00.000001Z": field is immutable`)
	// The faces have different names for who reports, and the older one does not
	// look at metadata.
	nobody := newEvent(func(e *corev1.Event) { e.ReportingController, e.Name = "", "A" })
	const unnamed = ": Invalid value: \"\": name part must be non-empty"
	const letters = ": Invalid value: \"\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
	sameErrors(t, Event.Validate(nobody), "reportingComponent: Required value", "reportingComponent"+unnamed, "reportingComponent"+letters)
	sameErrors(t, face.Validate(nobody), "reportingController: Required value", "reportingController"+unnamed, "reportingController"+letters,
		`metadata.name: Invalid value: "A": `+nameRule)
	sameErrors(t, face.ValidateUpdate(newEvent(func(e *corev1.Event) { e.Series = &corev1.EventSeries{} }), newEvent()),
		`series.count: Invalid value: "": should be at least 2`, "series.lastObservedTime: Required value")
}

func TestEventRow(t *testing.T) {
	now, _ := noon()
	cases := []struct {
		e    *corev1.Event
		want []any
	}{
		{oldEvent(), []any{"30s", "Normal", "Scheduled", "pod/web", "spec.containers{c}", "kubelet, n1", "Assigned", "10m", int64(3), "web.1"}},
		{newEvent(), []any{"5m", "Normal", "Scheduled", "pod/web", "spec.containers{c}", "skiff.sh/scheduler, n1", "Assigned", "5m", int64(1), "web.1"}},
		{newEvent(func(e *corev1.Event) {
			e.Series = &corev1.EventSeries{Count: 7, LastObservedTime: metav1.NewMicroTime(now.Add(-time.Second))}
			e.InvolvedObject.Name = ""
			e.ReportingInstance = ""
		}), []any{"1s", "Normal", "Scheduled", "pod", "spec.containers{c}", "skiff.sh/scheduler", "Assigned", "5m", int64(7), "web.1"}},
		{&corev1.Event{}, []any{"<unknown>", "", "", "", "", "", "", "<unknown>", int64(1), ""}},
	}
	for _, c := range cases {
		rowOf(t, Event, c.e, c.want...)
	}
	var shown []string
	for _, c := range Event.Columns {
		if c.Priority == 0 {
			shown = append(shown, strings.ToUpper(c.Name))
		}
	}
	if got := strings.Join(shown, ","); got != "LAST SEEN,TYPE,REASON,OBJECT,MESSAGE" {
		t.Errorf("columns %s", got)
	}
}

func TestEventFields(t *testing.T) {
	got := Event.Fields(oldEvent())
	for label, want := range map[string]string{
		"involvedObject.kind": "Pod", "involvedObject.name": "web", "involvedObject.uid": "1", "involvedObject.namespace": "ns",
		"involvedObject.fieldPath": "spec.containers{c}", "reason": "Scheduled", "type": "Normal", "source": "kubelet", "reportingComponent": "",
	} {
		if got.Get(label) != want {
			t.Errorf("%s is %q, want %q", label, got.Get(label), want)
		}
	}
	if e := Event.Fields(newEvent()); e.Get("source") != "skiff.sh/scheduler" || e.Get("reportingComponent") != "skiff.sh/scheduler" {
		t.Errorf("source of a new event: %v", e)
	}
	if !Event.Lazy(newEvent(), nil) || !Event.Lazy(newEvent(), newEvent()) {
		t.Error("an event waits for the disk")
	}
}

// TestFieldNames holds every kind to naming the fields it has, and every face
// to fields that its kind has.
func TestFieldNames(t *testing.T) {
	for _, k := range All {
		if k.Fields == nil {
			if len(k.FieldNames) > 0 {
				t.Errorf("%s names fields and has none", k.Kind)
			}
			continue
		}
		set := k.Fields(k.New())
		for name := range set {
			if !slices.Contains(k.FieldNames, name) {
				t.Errorf("%s has the field %s and does not name it", k.Kind, name)
			}
		}
		for _, f := range k.Faces {
			for label, name := range f.FieldNames {
				if !set.Has(name) {
					t.Errorf("%s: %s stands for %s, which is not there", f.Resource, label, name)
				}
			}
		}
	}
}
