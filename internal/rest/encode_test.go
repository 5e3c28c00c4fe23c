package rest

import (
	"bytes"
	"encoding/json"
	"strconv"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"

	"github.com/skiff-sh/skiff/internal/kind"
)

func configMap(name string) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", ResourceVersion: "7"},
		Data:       map[string]string{"a": "<1>"},
	}
}

// What we write must be what apimachinery's own serializers write.
func TestObjectsAsUpstreamEncodesThem(t *testing.T) {
	res := newResource(kind.ConfigMap, nil)
	typed := configMap("a")
	typed.TypeMeta = metav1.TypeMeta{Kind: "ConfigMap", APIVersion: "v1"}
	var wantProtobuf bytes.Buffer
	if err := protobuf.NewSerializer(nil, nil).Encode(typed, &wantProtobuf); err != nil {
		t.Fatal(err)
	}
	wantJSON, err := json.Marshal(typed)
	if err != nil {
		t.Fatal(err)
	}
	for name, obj := range map[string]kind.Object{"untyped": configMap("a"), "typed": typed} {
		for m, want := range map[media][]byte{mediaJSON: wantJSON, mediaProtobuf: wantProtobuf.Bytes()} {
			var b bytes.Buffer
			if err := newEncodings(1<<20).appendObject(&b, res, obj, form{media: m}, true); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(b.Bytes(), want) {
				t.Errorf("%s as %d:\n%q\nwant\n%q", name, m, b.Bytes(), want)
			}
		}
	}
}

func TestListsAsUpstreamEncodesThem(t *testing.T) {
	remaining := int64(5)
	meta := metav1.ListMeta{ResourceVersion: "9", Continue: "c", RemainingItemCount: &remaining}
	for _, n := range []int{0, 1, 300} {
		want := &corev1.ConfigMapList{TypeMeta: metav1.TypeMeta{Kind: "ConfigMapList", APIVersion: "v1"}, ListMeta: meta, Items: []corev1.ConfigMap{}}
		var items []kind.Object
		for i := range n {
			c := configMap("c" + strconv.Itoa(i))
			want.Items = append(want.Items, *c)
			items = append(items, c)
		}
		wantJSON, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var wantProtobuf bytes.Buffer
		if err := protobuf.NewSerializer(nil, nil).Encode(runtime.Object(want), &wantProtobuf); err != nil {
			t.Fatal(err)
		}
		for m, want := range map[media][]byte{mediaJSON: wantJSON, mediaProtobuf: wantProtobuf.Bytes()} {
			var b bytes.Buffer
			if err := newEncodings(1<<20).appendList(&b, newResource(kind.ConfigMap, nil), meta, items, form{media: m}, whole); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(b.Bytes(), want) {
				t.Errorf("%d items as %d:\n%.300q\nwant\n%.300q", n, m, b.Bytes(), want)
			}
		}
	}
}

func TestEncodingsAreSharedAndBounded(t *testing.T) {
	e := newEncodings(64 << 10)
	res := newResource(kind.ConfigMap, nil)
	obj := configMap("a")
	first, err := e.bare(res, obj, mediaJSON, true)
	if err != nil {
		t.Fatal(err)
	}
	again, err := e.bare(res, obj, mediaJSON, false)
	if err != nil || &first[0] != &again[0] {
		t.Errorf("the second reader got an encoding of its own (%v)", err)
	}
	var wait sync.WaitGroup
	for g := range 4 {
		wait.Go(func() {
			for i := range 1000 {
				if _, err := e.bare(res, configMap(strconv.Itoa(g*1000+i)), mediaJSON, true); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	total := 0
	for i := range e.shards {
		s := &e.shards[i]
		sum := 0
		for _, entry := range s.entries {
			sum += entry.cost
		}
		if sum != s.bytes {
			t.Errorf("shard %d says %d bytes and holds %d", i, s.bytes, sum)
		}
		total += sum
	}
	if total > 64<<10 || total == 0 {
		t.Errorf("%d bytes kept, bound is %d", total, 64<<10)
	}
}
