package api

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"

	"github.com/skiff-sh/skiff/internal/kind"
)

const tableOf = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"

// fixedClock starts at one instant and can be moved.
func fixedClock() (now func() time.Time, move func(time.Duration)) {
	var offset atomic.Int64
	begin := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return func() time.Time { return begin.Add(time.Duration(offset.Load())) }, func(d time.Duration) { offset.Add(int64(d)) }
}

// What kubectl get prints is made here: columns and cells of every kind.
func TestTables(t *testing.T) {
	now, move := fixedClock()
	p := startAt(t, nil, now)
	client := must(dynamic.NewForConfig(p.admin()))(t)
	var text strings.Builder
	for _, k := range kind.All {
		content := must(runtime.DefaultUnstructuredConverter.ToUnstructured(samples[k.Resource].DeepCopyObject()))(t)
		obj := &unstructured.Unstructured{Object: content}
		obj.SetGroupVersionKind(k.GVK())
		obj.SetName("sample")
		base := "/apis/" + k.Resource.Group + "/" + k.Resource.Version
		if k.Resource.Group == "" {
			base = "/api/v1"
		}
		var in dynamic.ResourceInterface = client.Resource(k.Resource)
		if k.Namespaced {
			in = client.Resource(k.Resource).Namespace("default")
			obj.SetNamespace("default")
			base += "/namespaces/default"
		}
		if k == kind.Service {
			must[any](nil, unstructured.SetNestedField(content, "10.43.0.99", "spec", "clusterIP"))(t)
		}
		must(in.Create(t.Context(), obj, metav1.CreateOptions{}))(t)
		move(90 * time.Second)
		_, body, _ := call(t, p.admin(), "GET", base+"/"+k.Resource.Resource+"/sample", "", map[string]string{"Accept": tableOf})
		describe(t, &text, k, body)
	}
	golden(t, "tables.txt", text.String())
}

// describe writes a Table with one row, a line for each column.
func describe(t *testing.T, text *strings.Builder, k *kind.Kind, body string) {
	t.Helper()
	var table metav1.Table
	if err := json.Unmarshal([]byte(body), &table); err != nil {
		t.Fatal(err)
	}
	if table.Kind != "Table" || table.APIVersion != "meta.k8s.io/v1" || len(table.Rows) != 1 || table.ResourceVersion == "" {
		t.Fatalf("%s: no table of one row: %s", k.Kind, body)
	}
	fmt.Fprintf(text, "%s\n", k.Kind)
	for i, c := range table.ColumnDefinitions {
		fmt.Fprintf(text, "  %d %-18s %-8s %-5s %v\n", c.Priority, c.Name, c.Type, c.Format, table.Rows[0].Cells[i])
	}
	var partial metav1.PartialObjectMetadata
	if err := json.Unmarshal(table.Rows[0].Object.Raw, &partial); err != nil || partial.Kind != "PartialObjectMetadata" || partial.Name != "sample" {
		t.Errorf("%s: the row's object is %s", k.Kind, table.Rows[0].Object.Raw)
	}
}

// kubectl get -w reads Tables from a watch: columns come with the first.
func TestTablesInWatch(t *testing.T) {
	p := start(t, nil)
	maps := p.client().CoreV1().ConfigMaps("default")
	for _, name := range []string{"a", "b"} {
		must(maps.Create(t.Context(), configMap(name, "1"), metav1.CreateOptions{}))(t)
	}
	path := "/api/v1/namespaces/default/configmaps?watch=1&timeoutSeconds=1&includeObject=Object"
	_, body, header := call(t, p.admin(), "GET", path, "", map[string]string{"Accept": tableOf})
	if header["Content-Type"][0] != "application/json" {
		t.Errorf("content type %q", header["Content-Type"])
	}
	decoder := json.NewDecoder(strings.NewReader(body))
	for i, name := range []string{"a", "b"} {
		var event struct {
			Type   string
			Object metav1.Table
		}
		if err := decoder.Decode(&event); err != nil {
			t.Fatalf("%v in %s", err, body)
		}
		var row corev1.ConfigMap
		if err := json.Unmarshal(event.Object.Rows[0].Object.Raw, &row); err != nil {
			t.Fatal(err)
		}
		if event.Type != "ADDED" || event.Object.Kind != "Table" || row.Name != name || row.Data["v"] != "1" || row.Kind != "ConfigMap" {
			t.Errorf("event %d: %+v", i, event)
		}
		if columns := len(event.Object.ColumnDefinitions); (columns > 0) != (i == 0) {
			t.Errorf("event %d has %d columns", i, columns)
		}
	}
}

// An Event written through one group is read through the other.
func TestEventsHaveTwoFaces(t *testing.T) {
	p := start(t, nil)
	client := p.client()
	event := samples[eventsv1.SchemeGroupVersion.WithResource("events")].(*eventsv1.Event).DeepCopy()
	event.Name, event.Note = "e", "a note"
	must(client.EventsV1().Events("default").Create(t.Context(), event, metav1.CreateOptions{}))(t)
	got := must(client.CoreV1().Events("default").Get(t.Context(), "e", metav1.GetOptions{}))(t)
	if got.Message != "a note" || got.InvolvedObject.Name != "p" || got.ReportingController != "c" {
		t.Errorf("in core/v1: %+v", got)
	}
	for selector, want := range map[string]int{"regarding.name=p,reason=R": 1, "regarding.name!=p": 0, "reportingController=c": 1} {
		if list := must(client.EventsV1().Events("default").List(t.Context(), metav1.ListOptions{FieldSelector: selector}))(t); len(list.Items) != want {
			t.Errorf("%s selects %d", selector, len(list.Items))
		}
	}
	_, err := client.EventsV1().Events("default").List(t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=p"})
	if !apierrors.IsBadRequest(err) || err.Error() != "field label not supported: involvedObject.name" {
		t.Errorf("a field of the other face: %v", err)
	}
	list := must(client.EventsV1().Events("default").List(t.Context(), metav1.ListOptions{}))(t)
	if len(list.Items) != 1 || list.Items[0].Note != "a note" || list.Items[0].ResourceVersion != got.ResourceVersion {
		t.Errorf("in events.k8s.io/v1: %+v", list.Items)
	}
}
