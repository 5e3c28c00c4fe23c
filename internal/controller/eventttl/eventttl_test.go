package eventttl

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestLastWord(t *testing.T) {
	created := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	later := created.Add(time.Minute)
	meta := metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(created)}
	for name, c := range map[string]struct {
		event corev1.Event
		want  time.Time
	}{
		"nothing but its creation": {corev1.Event{ObjectMeta: meta}, created},
		"counted on":               {corev1.Event{ObjectMeta: meta, LastTimestamp: metav1.NewTime(later)}, later},
		"new style":                {corev1.Event{ObjectMeta: meta, EventTime: metav1.NewMicroTime(later)}, later},
		"series": {corev1.Event{ObjectMeta: meta, Series: &corev1.EventSeries{
			LastObservedTime: metav1.NewMicroTime(later)}}, later},
		"a time before its creation": {corev1.Event{ObjectMeta: meta, LastTimestamp: metav1.NewTime(created.Add(-time.Hour))}, created},
	} {
		if got := lastWord(&c.event); !got.Equal(c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
