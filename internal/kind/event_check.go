package kind

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// The limits on what a new-style event says, in bytes.
const (
	maxEventText = 128
	maxEventNote = 1024
)

// eventErrors checks an event of either face. One with an eventTime is
// new-style, whichever face it came through.
func eventErrors(e *corev1.Event) field.ErrorList {
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
		errs = append(errs, eventTextErrors(e)...)
	}
	return append(errs, dnsSubdomain(field.NewPath("namespace"), e.Namespace)...)
}

func eventTextErrors(e *corev1.Event) field.ErrorList {
	controller := field.NewPath("reportingController")
	errs := notEmpty(controller, e.ReportingController)
	errs = append(errs, qualifiedName(controller, e.ReportingController)...)
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

// newEventErrors checks what only events.k8s.io/v1 asks for, on top of
// eventErrors. Paths are those of core/v1 because upstream's are.
func newEventErrors(e *corev1.Event) field.ErrorList {
	errs := eventSeriesErrors(e)
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
	var errs field.ErrorList
	if !equality.Semantic.DeepEqual(e.Series, old.Series) {
		errs = eventSeriesErrors(e)
	}
	for _, part := range []struct {
		name       string
		value, old any
	}{
		{"involvedObject", e.InvolvedObject, old.InvolvedObject},
		{"reason", e.Reason, old.Reason},
		{"message", e.Message, old.Message},
		{"source", e.Source, old.Source},
		{"firstTimestamp", e.FirstTimestamp, old.FirstTimestamp},
		{"lastTimestamp", e.LastTimestamp, old.LastTimestamp},
		{"count", e.Count, old.Count},
		{"type", e.Type, old.Type},
		{"eventTime", e.EventTime, old.EventTime},
		{"action", e.Action, old.Action},
		{"related", e.Related, old.Related},
		{"reportingController", e.ReportingController, old.ReportingController},
		{"reportingInstance", e.ReportingInstance, old.ReportingInstance},
	} {
		errs = append(errs, immutable(field.NewPath(part.name), part.value, part.old)...)
	}
	return errs
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
