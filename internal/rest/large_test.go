package rest

import (
	"bytes"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/kind"
)

// A large list is sent in parts, and is what it would be in one piece, in every form.
func TestLargeListsAreTheSameInParts(t *testing.T) {
	h := newTestHandler(Config{})
	var items []kind.Object
	for i := range 12 {
		m := configMap(fmt.Sprintf("m%d", i))
		m.Data["text"] = strings.Repeat("a line\n\n  <indented>\n", 4000)
		m.Annotations = map[string]string{"note": strings.Repeat("é", 20_000)}
		items = append(items, m)
	}
	res := h.groups[groupVersion{version: "v1"}].resources["configmaps"]
	meta := metav1.ListMeta{ResourceVersion: "7"}
	for name, f := range map[string]form{
		"JSON": {}, "protobuf": {media: mediaProtobuf}, "YAML": {media: mediaYAML}, "pretty": {pretty: true}, "table": {view: viewTable},
		"pretty table": {view: viewTable, pretty: true}, "partial": {view: viewPartialList}, "YAML partial": {view: viewPartialList, media: mediaYAML},
	} {
		var want bytes.Buffer
		if err := h.appendListView(&want, res, meta, items, f, metav1.IncludeObject); err != nil {
			t.Fatal(err)
		}
		if err := finish(&want, f); err != nil {
			t.Fatal(err)
		}
		q := &request{Request: httptest.NewRequest("GET", "/", nil), res: res}
		parts := &counted{ResponseRecorder: httptest.NewRecorder()}
		w := &statusWriter{ResponseWriter: parts, h: h}
		err := error(nil)
		if f.view == viewObject && (f.media == mediaProtobuf || f.media == mediaJSON && !f.pretty) {
			err = h.streamList(w, q, f, meta, items)
		} else {
			err = h.streamView(w, q, f, meta, items, metav1.IncludeObject)
		}
		w.release()
		if err != nil || !bytes.Equal(parts.Body.Bytes(), want.Bytes()) {
			t.Errorf("%s: %v, %d bytes, want %d; first difference:\n%s", name, err, parts.Body.Len(), want.Len(), difference(parts.Body.Bytes(), want.Bytes()))
		}
		if parts.writes < 3 {
			t.Errorf("%s: in %d parts", name, parts.writes)
		}
	}
	if h.answers.try(h.answers.bytes) == nil {
		t.Error("something is held still")
	}
}

type counted struct {
	*httptest.ResponseRecorder
	writes int
}

func (c *counted) Write(p []byte) (int, error) {
	c.writes++
	return c.ResponseRecorder.Write(p)
}

// difference shows where two texts begin to differ.
func difference(a, b []byte) string {
	i := 0
	for i < min(len(a), len(b)) && a[i] == b[i] {
		i++
	}
	at := func(x []byte) []byte { return x[max(0, min(i-40, len(x))):min(i+40, len(x))] }
	return fmt.Sprintf("%q\n%q", at(a), at(b))
}

// What is few bytes and much in memory weighs much; a large text does not.
func TestWeigh(t *testing.T) {
	const most = 90 << 20
	for name, c := range map[string]struct {
		data  string
		media media
		heavy bool
	}{
		"containers":          {`{"spec":{"containers":[` + strings.Repeat("{},", 1<<20) + "{}]}}", mediaJSON, true},
		"numbers":             {"[" + strings.Repeat("1,", 1<<20) + "1]", mediaJSON, true},
		"a text":              {`{"data":{"a":"` + strings.Repeat("{,[", 1<<20) + `"}}`, mediaJSON, false},
		"many keys":           {`{"data":{` + strings.Repeat(`"a":"b",`, 100_000) + `"a":"b"}}`, mediaJSON, false},
		"YAML maps":           {strings.Repeat("- {}\n", 600_000), mediaYAML, true},
		"YAML text":           {"a: |\n" + strings.Repeat("  "+strings.Repeat("x", 98)+"\n", 10_000), mediaYAML, false},
		"protobuf containers": {strings.Repeat("\x12\x00", 1<<20), mediaProtobuf, true},
		"protobuf text":       {strings.Repeat("x", 3<<20), mediaProtobuf, false},
	} {
		if weight := weigh([]byte(c.data), c.media); weight > most != c.heavy {
			t.Errorf("%s: %d MiB", name, weight>>20)
		}
	}
	var pod corev1.Pod
	for range 200 {
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: "container", Image: "registry.example.org/image:v1"})
	}
	data, err := pod.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if weight := weigh(data, mediaProtobuf); weight > 4<<20 {
		t.Errorf("an ordinary Pod weighs %d KiB", weight>>10)
	}
}
