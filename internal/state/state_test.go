package state

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/store"
	"github.com/skiff-sh/skiff/internal/store/bolt"
)

func TestCommit(t *testing.T) {
	h := newHouse(t)
	given := configMap("default", "a", "1")
	given.ResourceVersion = "77"
	got := h.must(t, put(kind.ConfigMap, given, store.Absent), Write{Action: store.Put, Claim: Claim{"ports", "80", "x"}},
		Write{Kind: kind.ConfigMap, Action: store.Check, Namespace: "default", Name: "a", Expect: store.Any})
	if got[0] != kind.Object(given) || given.ResourceVersion != "1" || got[1] != nil || got[2] != nil {
		t.Fatalf("got %v", got)
	}
	if given.Kind != "ConfigMap" || given.APIVersion != "v1" {
		t.Errorf("the object says it is %s of %s", given.Kind, given.APIVersion)
	}
	stored, ok := Get[*corev1.ConfigMap](h.State, kind.ConfigMap, "default", "a")
	if !ok || stored != given || h.Revision() != 2 {
		t.Fatalf("got %v, revision %d", stored, h.Revision())
	}
	_, err := h.Commit(context.Background(), put(kind.ConfigMap, configMap("default", "b", "1"), store.Absent),
		put(kind.ConfigMap, configMap("default", "a", "2"), 9))
	var conflict *store.ConflictError
	if !errors.As(err, &conflict) || conflict.Have != 1 {
		t.Fatalf("got %v", err)
	}
	if _, ok := h.Get(kind.ConfigMap, "default", "b"); ok {
		t.Error("a conflicting commit left something")
	}
	got = h.must(t, remove(kind.ConfigMap, "default", "a"))
	if got[0].GetResourceVersion() != "3" || stored.ResourceVersion != "1" || got[0].(*corev1.ConfigMap).Data["key"] != "1" {
		t.Fatalf("deleted: %v", got[0])
	}
	if _, ok := h.Get(kind.ConfigMap, "default", "a"); ok {
		t.Error("what was deleted is there")
	}
}

func TestCommitOfShared(t *testing.T) {
	h := newHouse(t)
	shared := h.must(t, put(kind.ConfigMap, configMap("ns", "a", "1"), store.Absent))[0]
	if _, err := h.Commit(context.Background(), put(kind.ConfigMap, shared, store.Any)); err == nil || !strings.Contains(err.Error(), "copy it") {
		t.Errorf("got %v", err)
	}
	if shared.GetResourceVersion() != "1" {
		t.Errorf("the shared object was changed")
	}
}

// TestForeignChange: what somebody else commits to the engine is seen as well.
func TestForeignChange(t *testing.T) {
	h := newHouse(t)
	w := watch(t, h, kind.ConfigMap, Interest{}, 0)
	value, err := encode(kind.ConfigMap, configMap("ns", "a", "1"))
	if err != nil {
		t.Fatal(err)
	}
	key := store.Key{Bucket: "configmaps", Name: "ns/a"}
	for _, op := range []store.Op{{Key: key, Value: value}, {Key: key, Action: store.Delete, Expect: store.Any}} {
		if _, err := h.engine.Commit(context.Background(), []store.Op{op}); err != nil {
			t.Fatal(err)
		}
	}
	if got := next(t, w) + " " + next(t, w); got != "added ns/a@1 deleted ns/a@2" {
		t.Errorf("got %s", got)
	}
}

func TestReopen(t *testing.T) {
	h := newHouse(t)
	var before []kind.Object
	for i := range 300 {
		before = append(before, h.must(t, put(kind.Pod, pod("ns", fmt.Sprintf("p%03d", i), fmt.Sprintf("n%d", i%3)), store.Absent))...)
	}
	lazy := put(kind.ConfigMap, configMap("ns", "lazy", "1"), store.Absent)
	lazy.Lazy = true
	h.must(t, lazy, Write{Action: store.Put, Claim: Claim{"clusterips", "10.43.0.1", "default/kubernetes"}, Lazy: true})
	h.close()
	h = open(t, h.path, testOptions())
	if h.Revision() != 302 {
		t.Fatalf("revision %d", h.Revision())
	}
	for i, obj := range List[*corev1.Pod](h.State, kind.Pod, Interest{}) {
		if !reflect.DeepEqual(kind.Object(obj), before[i]) {
			t.Fatalf("was %v\nis  %v", before[i], obj)
		}
	}
	if n := len(List[*corev1.Pod](h.State, kind.Pod, Interest{NodeName: "n1"})); n != 100 {
		t.Errorf("%d pods on n1", n)
	}
	if owner, ok := h.Claimed("clusterips", "10.43.0.1"); !ok || owner != "default/kubernetes" {
		t.Errorf("claim: %q, %t", owner, ok)
	}
	if _, ok := h.Get(kind.ConfigMap, "ns", "lazy"); !ok {
		t.Error("a lazy write is gone after a clean stop")
	}
	// A clean stop lets watches go on.
	w, err := h.Watch(kind.Pod, Interest{}, 302)
	if err != nil {
		t.Fatal(err)
	}
	none(t, w)
	if _, err := h.Watch(kind.Pod, Interest{}, 301); err != ErrExpired {
		t.Errorf("a watch from before: %v", err)
	}
}

// TestUncleanStop: watches from before end, revisions go on.
func TestUncleanStop(t *testing.T) {
	h := newHouse(t)
	h.must(t, put(kind.ConfigMap, configMap("ns", "a", "1"), store.Absent))
	data, err := os.ReadFile(h.path)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "store.db")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	after := open(t, path, testOptions())
	if _, err := after.Watch(kind.ConfigMap, Interest{}, 1); err != ErrExpired {
		t.Errorf("a watch from before: %v", err)
	}
	if after.Revision() <= h.Revision() {
		t.Errorf("revision %d", after.Revision())
	}
}

func TestDamagedObject(t *testing.T) {
	engine, err := bolt.Open(filepath.Join(t.TempDir(), "store.db"), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	_, err = engine.Commit(context.Background(), []store.Op{{Key: store.Key{Bucket: "events", Name: "a/b"}, Value: []byte("no protobuf")}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(context.Background(), engine, kind.All, Options{})
	if err == nil || !strings.Contains(err.Error(), "decode events/a/b at revision 1") {
		t.Fatalf("got %v", err)
	}
}

func TestAscend(t *testing.T) {
	h := newHouse(t)
	for _, p := range []*corev1.Pod{
		pod("a", "x", "n1"), pod("a", "y", "n2"), pod("a-b", "x", "n1"), pod("b", "x", ""), pod("b", "xx", "n1"), pod("b", "y", "n1"),
	} {
		h.must(t, put(kind.Pod, p, store.Absent))
	}
	n := h.Snapshot(kind.Pod)
	for _, test := range []struct {
		in    Interest
		after string
		want  string
	}{
		{Interest{}, "", "[a-b/x a/x a/y b/x b/xx b/y]"},
		{Interest{}, "a/x", "[a/y b/x b/xx b/y]"},
		{Interest{}, "a/xyz", "[a/y b/x b/xx b/y]"},
		{Interest{}, "z", "[]"},
		{Interest{Namespace: "a"}, "", "[a/x a/y]"},
		{Interest{Namespace: "a"}, "a/x", "[a/y]"},
		{Interest{Namespace: "b"}, "a/x", "[b/x b/xx b/y]"},
		{Interest{Namespace: "b", Name: "x"}, "", "[b/x]"},
		{Interest{Namespace: "b", Name: "x"}, "b/x", "[]"},
		{Interest{Namespace: "b", Name: "xxx"}, "", "[]"},
		{Interest{Name: "x"}, "", "[a-b/x a/x b/x]"},
		{Interest{NodeName: "n1"}, "", "[a-b/x a/x b/xx b/y]"},
		{Interest{NodeName: "n1"}, "a/x", "[b/xx b/y]"},
		{Interest{NodeName: "n1", Namespace: "b"}, "", "[b/xx b/y]"},
		{Interest{NodeName: "n1", Namespace: "b"}, "b/xx", "[b/y]"},
		{Interest{NodeName: "n1", Namespace: "b", Name: "y"}, "", "[b/y]"},
		{Interest{NodeName: "n1", Name: "x"}, "", "[a-b/x a/x]"},
		{Interest{NodeName: "n3"}, "", "[]"},
	} {
		if got := fmt.Sprint(keys(n, test.in, test.after)); got != test.want {
			t.Errorf("%+v after %q: %s, want %s", test.in, test.after, got, test.want)
		}
	}
	// Cluster-scoped names have no slash.
	h.must(t, put(kind.Namespace, namespace("one"), store.Absent), put(kind.Namespace, namespace("two"), store.Absent))
	if got := fmt.Sprint(keys(h.Snapshot(kind.Namespace), Interest{Name: "two"}, "")); got != "[two]" {
		t.Errorf("namespaces: %s", got)
	}
	if got := keys(h.Snapshot(kind.Namespace), Interest{NodeName: "n1"}, ""); got != nil {
		t.Errorf("namespaces on a node: %s", got)
	}
}

func namespace(name string) *corev1.Namespace {
	n := &corev1.Namespace{}
	n.Name = name
	return n
}

// TestNodeIndex moves a pod through all that can happen to its node.
func TestNodeIndex(t *testing.T) {
	h := newHouse(t)
	h.must(t, put(kind.Pod, pod("a", "x", ""), store.Absent))
	for _, step := range []struct {
		write Write
		want  string
	}{
		{put(kind.Pod, pod("a", "x", "n1"), store.Any), "[a/x] []"},
		{put(kind.Pod, pod("a", "x", "n2"), store.Any), "[] [a/x]"},
		{put(kind.Pod, pod("a", "x", ""), store.Any), "[] []"},
		{put(kind.Pod, pod("a", "x", "n1"), store.Any), "[a/x] []"},
		{remove(kind.Pod, "a", "x"), "[] []"},
	} {
		h.must(t, step.write)
		n := h.Snapshot(kind.Pod)
		if got := fmt.Sprint(keys(n, Interest{NodeName: "n1"}, ""), keys(n, Interest{NodeName: "n2"}, "")); got != step.want {
			t.Errorf("%s, want %s", got, step.want)
		}
	}
}

func TestSnapshotStays(t *testing.T) {
	h := newHouse(t)
	for i := range 200 {
		h.must(t, put(kind.ConfigMap, configMap("ns", fmt.Sprintf("c%03d", i), "1"), store.Absent))
	}
	n := h.Snapshot(kind.ConfigMap)
	h.Retain(n)
	for i := range 200 {
		h.must(t, remove(kind.ConfigMap, "ns", fmt.Sprintf("c%03d", i)))
	}
	h.must(t, put(kind.ConfigMap, configMap("ns", "new", "1"), store.Absent))
	again, ok := h.SnapshotAt(kind.ConfigMap, 200)
	if !ok || again.Revision() != 200 {
		t.Fatal("the revision was not retained")
	}
	if old := h.Snapshot(kind.ConfigMap); n.Of(kind.ConfigMap).Len() != 200 || old.Of(kind.Pod).Revision() != 401 {
		t.Error("another kind's snapshot is not of the same revision")
	}
	for _, n := range []*Snapshot{n, again} {
		if _, there := n.Get("ns", "new"); n.Len() != 200 || len(keys(n, Interest{}, "")) != 200 || there {
			t.Errorf("the snapshot of revision %d changed", n.Revision())
		}
	}
	if n, ok := h.SnapshotAt(kind.ConfigMap, 201); !ok || n.Len() != 199 {
		t.Error("the ring knows what happened since, and the list is not there")
	}
	if now, ok := h.SnapshotAt(kind.ConfigMap, h.Revision()); !ok || now.Len() != 1 {
		t.Error("the current revision is not there")
	}
}

func TestRetention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRetention(Retain{Count: 3, Age: time.Minute})
		for i := range 5 {
			r.use(&world{revision: store.Revision(i)})
		}
		if r.find(1) != nil || r.find(2) == nil {
			t.Error("not the newest three are kept")
		}
		time.Sleep(50 * time.Second)
		if r.find(3) == nil {
			t.Error("3 is gone too early")
		}
		time.Sleep(20 * time.Second)
		r.expire()
		if r.find(3) == nil || r.find(4) != nil || len(r.worlds) != 1 {
			t.Errorf("%d left", len(r.worlds))
		}
	})
}

func TestClaims(t *testing.T) {
	h := newHouse(t)
	claim := func(name string, action store.Action, expect store.Revision) Write {
		return Write{Action: action, Expect: expect, Claim: Claim{"nodeports", name, "default/web"}}
	}
	h.must(t, claim("30001", store.Put, store.Absent), claim("30000", store.Put, store.Absent))
	_, err := h.Commit(context.Background(), put(kind.ConfigMap, configMap("ns", "a", "1"), store.Absent), claim("30000", store.Put, store.Absent))
	var conflict *store.ConflictError
	if !errors.As(err, &conflict) || conflict.Key.String() != "!nodeports/30000" {
		t.Fatalf("got %v", err)
	}
	if _, ok := h.Get(kind.ConfigMap, "ns", "a"); ok {
		t.Error("the object is there without its claim")
	}
	var got []string
	h.Claims("nodeports", func(name, owner string) bool {
		got = append(got, name+" "+owner)
		return true
	})
	if fmt.Sprint(got) != "[30000 default/web 30001 default/web]" {
		t.Errorf("got %v", got)
	}
	h.must(t, claim("30000", store.Delete, store.Any))
	if _, ok := h.Claimed("nodeports", "30000"); ok {
		t.Error("a freed claim is held")
	}
	if _, ok := h.Claimed("unknown", "x"); ok {
		t.Error("an unknown table has claims")
	}
}

func TestDetector(t *testing.T) {
	engine := newHouse(t).engine
	s, err := Open(context.Background(), engine, kind.All, testOptions())
	if err != nil {
		t.Fatal(err)
	}
	objects, err := s.Commit(context.Background(), put(kind.ConfigMap, configMap("ns", "a", "1"), store.Absent))
	if err != nil {
		t.Fatal(err)
	}
	objects[0].(*corev1.ConfigMap).Data["key"] = "2"
	defer func() {
		if text := fmt.Sprint(recover()); !strings.Contains(text, "a shared object was changed") || !strings.Contains(text, "ns/a") {
			t.Errorf("got %s", text)
		}
	}()
	s.Close()
}

// With a time of more than whole seconds an object would be another one after
// a restart, and a client that sends back what it was shown would seem to
// change it.
func TestTimesThatDiskCannotKeepAreFound(t *testing.T) {
	for _, test := range []struct {
		name  string
		at    metav1.Time
		fails bool
	}{
		{"now", kind.Now(), false},
		{"with nanoseconds", metav1.NewTime(time.Unix(1, 5)), true},
	} {
		t.Run(test.name, func(t *testing.T) {
			defer func() {
				if reason := recover(); (reason != nil) != test.fails {
					t.Error(reason)
				}
			}()
			mustKeep(kind.ConfigMap, &corev1.ConfigMap{
				TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
				ObjectMeta: metav1.ObjectMeta{Name: "a", CreationTimestamp: test.at, ResourceVersion: "7"},
			})
		})
	}
}
