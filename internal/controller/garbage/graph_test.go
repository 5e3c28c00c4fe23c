package garbage

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
)

// configMap returns one whose UID is its name, owned by others, who wait for it
// where the name ends in "!".
func configMap(name string, owners ...string) *corev1.ConfigMap {
	c := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: types.UID(name)}}
	for _, o := range owners {
		o, blocks := strings.CutSuffix(o, "!")
		c.OwnerReferences = append(c.OwnerReferences, metav1.OwnerReference{
			APIVersion: "v1", Kind: "ConfigMap", Name: o, UID: types.UID(o), BlockOwnerDeletion: &blocks,
		})
	}
	return c
}

func deleting(c *corev1.ConfigMap) *corev1.ConfigMap {
	c.DeletionTimestamp = &metav1.Time{}
	c.Finalizers = []string{metav1.FinalizerDeleteDependents}
	return c
}

// Whom an event concerns, and who depends on whom after it.
func TestGraph(t *testing.T) {
	g := newGraph()
	find := finder(kind.All)
	for _, c := range []struct {
		what           string
		event          state.Event
		keys, children string // children of a
	}{
		{"one without owners", state.Event{Object: configMap("a")}, "", ""},
		{"an owned one", state.Event{Object: configMap("b", "a")}, "b", "b"},
		{"another, of two", state.Event{Object: configMap("c", "a!", "x")}, "c", "b c"},
		{"a change of no matter", state.Event{Type: state.Modified, Old: configMap("b", "a"), Object: configMap("b", "a")}, "", "b c"},
		{"an owner that waits no more", state.Event{Type: state.Modified, Old: configMap("c", "a!", "x"), Object: configMap("c", "a", "x")}, "a c x", "b c"},
		{"one owner less", state.Event{Type: state.Modified, Old: configMap("c", "a", "x"), Object: configMap("c", "x")}, "a c x", "b"},
		{"an owner is being deleted", state.Event{Type: state.Modified, Old: configMap("a"), Object: deleting(configMap("a"))}, "a", "b"},
		{"a dependent goes", state.Event{Type: state.Deleted, Old: configMap("b", "a"), Object: configMap("b", "a")}, "a", ""},
		{"it comes back", state.Event{Object: configMap("b", "a")}, "b", "b"},
		{"its owner goes", state.Event{Type: state.Deleted, Old: configMap("a"), Object: configMap("a")}, "b", "b"},
	} {
		keys := g.note(kind.ConfigMap, find, c.event)
		if got := named(keys); got != c.keys {
			t.Errorf("%s: concerns %q, want %q", c.what, got, c.keys)
		}
		if got := named(g.dependentsOf("a")); got != c.children {
			t.Errorf("%s: a has %q, want %q", c.what, got, c.children)
		}
	}
}

func named(keys []Key) string {
	var out []string
	for _, key := range keys {
		out = append(out, key.Name)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func TestFinder(t *testing.T) {
	find := finder(kind.All)
	for reference, want := range map[metav1.OwnerReference]*kind.Kind{
		{APIVersion: "v1", Kind: "Pod"}:                     kind.Pod,
		{APIVersion: "apps/v1", Kind: "Deployment"}:         kind.Deployment,
		{APIVersion: "apps/v1beta1", Kind: "Deployment"}:    kind.Deployment,
		{APIVersion: "v1", Kind: "Deployment"}:              nil,
		{APIVersion: "example.com/v1", Kind: "Thing"}:       nil,
		{APIVersion: "a/b/c", Kind: "Pod"}:                  nil,
		{APIVersion: "coordination.k8s.io/v1", Kind: "Pod"}: nil,
	} {
		if got := find(reference); got != want {
			t.Errorf("%v: %s", reference, fmt.Sprint(got))
		}
	}
}

func TestPropagation(t *testing.T) {
	for want, finalizers := range map[metav1.DeletionPropagation][]string{
		metav1.DeletePropagationBackground: {"example.com/x"},
		metav1.DeletePropagationForeground: {metav1.FinalizerDeleteDependents},
		metav1.DeletePropagationOrphan:     {metav1.FinalizerDeleteDependents, metav1.FinalizerOrphanDependents},
	} {
		c := configMap("a")
		c.Finalizers = finalizers
		if got := propagation(c); got != want {
			t.Errorf("%q: %s", finalizers, got)
		}
	}
}
