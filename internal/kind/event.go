package kind

import (
	"cmp"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Event describes the kind of that name. It is stored as core/v1 and has a
// second face in events.k8s.io/v1.
var Event = &Kind{
	Resource:   schema.GroupVersionResource{Group: "", Version: "v1", Resource: "events"},
	Kind:       "Event",
	Singular:   "event",
	ShortNames: []string{"ev"},
	Namespaced: true,
	New:        func() Object { return &corev1.Event{} },
	NewList:    func() runtime.Object { return &corev1.EventList{} },
	Faces:      []Face{eventFace},

	Validate:       func(obj Object) field.ErrorList { return oldEventErrors(obj.(*corev1.Event)) },
	ValidateUpdate: func(obj, _ Object) field.ErrorList { return oldEventErrors(obj.(*corev1.Event)) },
	// An event that a power cut takes is one less line in a history.
	Lazy: func(Object, Object) bool { return true },

	Columns: []metav1.TableColumnDefinition{
		column("Last Seen", corev1.Event{}.SwaggerDoc()["lastTimestamp"]),
		column("Type", corev1.Event{}.SwaggerDoc()["type"]),
		column("Reason", corev1.Event{}.SwaggerDoc()["reason"]),
		column("Object", corev1.Event{}.SwaggerDoc()["involvedObject"]),
		wideColumn("Subobject", corev1.ObjectReference{}.SwaggerDoc()["fieldPath"]),
		wideColumn("Source", corev1.Event{}.SwaggerDoc()["source"]),
		column("Message", corev1.Event{}.SwaggerDoc()["message"]),
		wideColumn("First Seen", corev1.Event{}.SwaggerDoc()["firstTimestamp"]),
		wideColumn("Count", corev1.Event{}.SwaggerDoc()["count"]),
		wideNameColumn,
	},
	Row: func(obj Object, now time.Time) []any { return eventRow(obj.(*corev1.Event), now) },

	FieldNames: []string{
		"involvedObject.kind",
		"involvedObject.namespace",
		"involvedObject.name",
		"involvedObject.uid",
		"involvedObject.apiVersion",
		"involvedObject.resourceVersion",
		"involvedObject.fieldPath",
		"reason",
		"reportingComponent",
		"source",
		"type",
	},
	Fields: func(obj Object) fields.Set { return eventFields(obj.(*corev1.Event)) },
}

// wideNameColumn is where the name of an event goes: nobody looks for it first.
var wideNameColumn = metav1.TableColumnDefinition{Name: "Name", Type: "string", Format: "name", Priority: 1, Description: nameColumn.Description}

// eventFace is the newer API of the same events.
var eventFace = Face{
	Resource: eventsv1.SchemeGroupVersion.WithResource("events"),
	New:      func() Object { return &eventsv1.Event{} },
	NewList:  func() runtime.Object { return &eventsv1.EventList{} },
	ToStored: func(obj Object) Object {
		return eventToStored(obj.(*eventsv1.Event))
	},
	FromStored: func(obj Object) Object {
		return eventFromStored(obj.(*corev1.Event))
	},
	Validate: func(obj Object) field.ErrorList { return newEventErrors(obj.(*corev1.Event)) },
	ValidateUpdate: func(obj, old Object) field.ErrorList {
		return newEventUpdateErrors(obj.(*corev1.Event), old.(*corev1.Event))
	},
	FieldNames: map[string]string{
		"regarding.kind":            "involvedObject.kind",
		"regarding.namespace":       "involvedObject.namespace",
		"regarding.name":            "involvedObject.name",
		"regarding.uid":             "involvedObject.uid",
		"regarding.apiVersion":      "involvedObject.apiVersion",
		"regarding.resourceVersion": "involvedObject.resourceVersion",
		"regarding.fieldPath":       "involvedObject.fieldPath",
		"reason":                    "reason",
		"reportingController":       "reportingComponent",
		"type":                      "type",
	},
}

func eventFields(e *corev1.Event) fields.Set {
	return fields.Set{
		"involvedObject.kind":            e.InvolvedObject.Kind,
		"involvedObject.namespace":       e.InvolvedObject.Namespace,
		"involvedObject.name":            e.InvolvedObject.Name,
		"involvedObject.uid":             string(e.InvolvedObject.UID),
		"involvedObject.apiVersion":      e.InvolvedObject.APIVersion,
		"involvedObject.resourceVersion": e.InvolvedObject.ResourceVersion,
		"involvedObject.fieldPath":       e.InvolvedObject.FieldPath,
		"reason":                         e.Reason,
		"reportingComponent":             e.ReportingController,
		"source":                         cmp.Or(e.Source.Component, e.ReportingController),
		"type":                           e.Type,
	}
}

func eventRow(e *corev1.Event, now time.Time) []any {
	first := since(e.FirstTimestamp.Time, now)
	if e.FirstTimestamp.IsZero() {
		first = since(e.EventTime.Time, now)
	}
	last := first
	if !e.LastTimestamp.IsZero() {
		last = since(e.LastTimestamp.Time, now)
	}
	// An event of the newer API that happened once says no count.
	count := cmp.Or(e.Count, 1)
	if e.Series != nil {
		last, count = since(e.Series.LastObservedTime.Time, now), e.Series.Count
	}
	object := strings.ToLower(e.InvolvedObject.Kind)
	if e.InvolvedObject.Name != "" {
		object += "/" + e.InvolvedObject.Name
	}
	source := cmp.Or(e.Source.Component, e.ReportingController)
	if instance := cmp.Or(e.Source.Host, e.ReportingInstance); instance != "" {
		source += ", " + instance
	}
	return []any{
		last,
		e.Type,
		e.Reason,
		object,
		e.InvolvedObject.FieldPath,
		source,
		strings.TrimSpace(e.Message),
		first,
		int64(count),
		e.Name,
	}
}

func eventToStored(e *eventsv1.Event) *corev1.Event {
	out := &corev1.Event{
		TypeMeta:            metav1.TypeMeta{APIVersion: "v1", Kind: "Event"},
		ObjectMeta:          *e.ObjectMeta.DeepCopy(),
		InvolvedObject:      e.Regarding,
		Reason:              e.Reason,
		Message:             e.Note,
		Source:              e.DeprecatedSource,
		FirstTimestamp:      e.DeprecatedFirstTimestamp,
		LastTimestamp:       e.DeprecatedLastTimestamp,
		Count:               e.DeprecatedCount,
		Type:                e.Type,
		EventTime:           e.EventTime,
		Action:              e.Action,
		Related:             e.Related.DeepCopy(),
		ReportingController: e.ReportingController,
		ReportingInstance:   e.ReportingInstance,
	}
	if s := e.Series; s != nil {
		out.Series = &corev1.EventSeries{Count: s.Count, LastObservedTime: s.LastObservedTime}
	}
	return out
}

func eventFromStored(e *corev1.Event) *eventsv1.Event {
	out := &eventsv1.Event{
		TypeMeta:                 metav1.TypeMeta{APIVersion: eventsv1.SchemeGroupVersion.String(), Kind: "Event"},
		ObjectMeta:               *e.ObjectMeta.DeepCopy(),
		EventTime:                e.EventTime,
		ReportingController:      e.ReportingController,
		ReportingInstance:        e.ReportingInstance,
		Action:                   e.Action,
		Reason:                   e.Reason,
		Regarding:                e.InvolvedObject,
		Related:                  e.Related.DeepCopy(),
		Note:                     e.Message,
		Type:                     e.Type,
		DeprecatedSource:         e.Source,
		DeprecatedFirstTimestamp: e.FirstTimestamp,
		DeprecatedLastTimestamp:  e.LastTimestamp,
		DeprecatedCount:          e.Count,
	}
	if s := e.Series; s != nil {
		out.Series = &eventsv1.EventSeries{Count: s.Count, LastObservedTime: s.LastObservedTime}
	}
	return out
}
