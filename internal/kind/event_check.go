package kind

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// The limits on what a new-style event says, in bytes.
const (
	maxEventText = 128
	maxEventNote = 1024
)

// oldEventErrors checks an event of core/v1, which does not look at metadata.
func oldEventErrors(e *corev1.Event) field.ErrorList {
	return eventErrors(e, field.NewPath("reportingComponent"))
}

// eventErrors checks an event of either face. One with an eventTime is
// new-style, whichever face it came through. The faces have different names for
// who reports it.
func eventErrors(e *corev1.Event, reporter *field.Path) field.ErrorList {
	var errs field.ErrorList
	about := e.InvolvedObject.Namespace
	apart := e.Namespace != about
	if about == "" {
		// What has no namespace is reported in one of these.
		apart = e.Namespace != metav1.NamespaceDefault && e.Namespace != ""
		if !e.EventTime.IsZero() {
			apart = e.Namespace != metav1.NamespaceDefault && e.Namespace != metav1.NamespaceSystem
		}
	} else if !e.EventTime.IsZero() {
		apart = false
	}
	if apart {
		errs = append(errs, field.Invalid(field.NewPath("involvedObject", "namespace"), about, "does not match event.namespace"))
	}
	if !e.EventTime.IsZero() {
		errs = append(errs, eventTextErrors(e, reporter)...)
	}
	return append(errs, dnsSubdomain(field.NewPath("namespace"), e.Namespace)...)
}

func eventTextErrors(e *corev1.Event, reporter *field.Path) field.ErrorList {
	errs := notEmpty(reporter, e.ReportingController)
	errs = append(errs, qualifiedName(reporter, e.ReportingController)...)
	for _, text := range []struct{ name, value string }{
		{"reportingInstance", e.ReportingInstance},
		{"action", e.Action},
		{"reason", e.Reason},
	} {
		path := field.NewPath(text.name)
		errs = append(errs, notEmpty(path, text.value)...)
		errs = append(errs, eventLengthErrors(path, text.value, maxEventText)...)
	}
	return append(errs, eventLengthErrors(field.NewPath("message"), e.Message, maxEventNote)...)
}

func eventLengthErrors(path *field.Path, text string, limit int) field.ErrorList {
	if len(text) <= limit {
		return nil
	}
	return field.ErrorList{field.Invalid(path, "", fmt.Sprintf("can have at most %v characters", limit))}
}

// newEventErrors checks an event of events.k8s.io/v1. Most paths are those of
// core/v1 because upstream's are.
func newEventErrors(e *corev1.Event) field.ErrorList {
	errs := eventErrors(e, field.NewPath("reportingController"))
	errs = append(errs, newMetaErrors(e, nil, apivalidation.NameIsDNSSubdomain)...)
	errs = append(errs, eventSeriesErrors(e)...)
	if e.EventTime.IsZero() {
		errs = append(errs, field.Required(field.NewPath("eventTime"), ""))
	}
	if e.Type != corev1.EventTypeNormal && e.Type != corev1.EventTypeWarning {
		errs = append(errs, field.Invalid(field.NewPath("type"), "", fmt.Sprintf("has invalid value: %v", e.Type)))
	}
	for _, old := range []struct {
		name string
		set  bool
	}{
		{"firstTimestamp", !e.FirstTimestamp.IsZero()},
		{"lastTimestamp", !e.LastTimestamp.IsZero()},
		{"count", e.Count != 0},
		{"source", e.Source != corev1.EventSource{}},
	} {
		if old.set {
			errs = append(errs, field.Invalid(field.NewPath(old.name), "", "needs to be unset"))
		}
	}
	return errs
}

// newEventUpdateErrors lets only the series of an event grow.
func newEventUpdateErrors(e, old *corev1.Event) field.ErrorList {
	errs := eventErrors(e, field.NewPath("reportingController"))
	errs = append(errs, metaUpdateErrors(e, old)...)
	if !equality.Semantic.DeepEqual(e.Series, old.Series) {
		errs = append(errs, eventSeriesErrors(e)...)
	}
	reason := fixed{"reason", e.Reason, old.Reason}
	for _, f := range []fixed{
		{"involvedObject", e.InvolvedObject, old.InvolvedObject},
		reason,
		{"message", e.Message, old.Message},
		{"source", e.Source, old.Source},
		{"firstTimestamp", e.FirstTimestamp, old.FirstTimestamp},
		{"lastTimestamp", e.LastTimestamp, old.LastTimestamp},
		{"count", e.Count, old.Count},
		reason, // twice, as upstream
		{"type", e.Type, old.Type},
		{"eventTime", wholeMicros(e.EventTime), wholeMicros(old.EventTime)},
		{"action", e.Action, old.Action},
		{"related", e.Related, old.Related},
		{"reportingController", e.ReportingController, old.ReportingController},
		{"reportingInstance", e.ReportingInstance, old.ReportingInstance},
	} {
		errs = append(errs, f.errors()...)
	}
	return errs
}

// fixed is a field that an update must not change.
type fixed struct {
	name       string
	value, old any
}

func (f fixed) errors() field.ErrorList {
	if equality.Semantic.DeepEqual(f.value, f.old) {
		return nil
	}
	shown := f.value
	switch shown.(type) {
	case corev1.ObjectReference, *corev1.ObjectReference, corev1.EventSource:
		shown = untagged{shown}
	}
	return field.ErrorList{field.Invalid(field.NewPath(f.name), shown, apivalidation.FieldImmutableErrorMsg)}
}

// wholeMicros drops what JSON has no digits for.
func wholeMicros(t metav1.MicroTime) metav1.MicroTime {
	return metav1.NewMicroTime(t.Truncate(time.Microsecond))
}

func eventSeriesErrors(e *corev1.Event) field.ErrorList {
	if e.Series == nil {
		return nil
	}
	var errs field.ErrorList
	if e.Series.Count < 2 {
		errs = append(errs, field.Invalid(field.NewPath("series.count"), "", "should be at least 2"))
	}
	if e.Series.LastObservedTime.IsZero() {
		errs = append(errs, field.Required(field.NewPath("series.lastObservedTime"), ""))
	}
	return errs
}
