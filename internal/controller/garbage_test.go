package controller_test

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
	"github.com/skiff-sh/skiff/internal/store"
)

func TestPropagation(t *testing.T) {
	for _, way := range []metav1.DeletionPropagation{metav1.DeletePropagationBackground, metav1.DeletePropagationForeground, metav1.DeletePropagationOrphan} {
		t.Run(string(way), func(t *testing.T) {
			inPlane(t, func(p *plane) {
				p.machine("a")
				p.create(newDeployment(3))
				var mu sync.Mutex
				when := map[store.Revision]string{}
				for _, k := range []*kind.Kind{kind.Deployment, kind.ReplicaSet, kind.Pod} {
					p.watch(k, func(e state.Event) {
						if e.Type == state.Deleted {
							mu.Lock()
							when[e.Revision] = k.Kind
							mu.Unlock()
						}
					})
				}
				p.delete(kind.Deployment, "web", way)
				p.pass(time.Second)
				var order []string
				for _, revision := range slices.Sorted(maps.Keys(when)) {
					order = append(order, when[revision])
				}
				left := [3]int{len(p.names(kind.Deployment)), len(p.names(kind.ReplicaSet)), len(p.names(kind.Pod))}
				switch way {
				case metav1.DeletePropagationOrphan:
					equal(p, "left", left, [3]int{0, 1, 3})
					rs := list[*appsv1.ReplicaSet](p, kind.ReplicaSet)[0]
					equal(p, "owners", len(rs.OwnerReferences), 0)
					p.create(newDeployment(3)) // which adopts what it finds
					equal(p, "ReplicaSets", len(p.names(kind.ReplicaSet)), 1)
					if ref := metav1.GetControllerOf(list[*appsv1.ReplicaSet](p, kind.ReplicaSet)[0]); ref == nil || ref.Name != "web" {
						t.Errorf("owner %+v", ref)
					}
				case metav1.DeletePropagationForeground:
					equal(p, "left", left, [3]int{})
					if !slices.Equal(order, []string{"Pod", "Pod", "Pod", "ReplicaSet", "Deployment"}) {
						t.Errorf("they went in the order %q", order)
					}
				default:
					equal(p, "left", left, [3]int{})
					equal(p, "first", order[0], "Deployment")
				}
			})
		})
	}
}

func owner(k *kind.Kind, obj kind.Object, block bool) metav1.OwnerReference {
	return metav1.OwnerReference{
		APIVersion: k.Resource.GroupVersion().String(), Kind: k.Kind, Name: obj.GetName(), UID: obj.GetUID(), BlockOwnerDeletion: &block,
	}
}

func TestOwners(t *testing.T) {
	configMap := func(name string, owners ...metav1.OwnerReference) *corev1.ConfigMap {
		c := &corev1.ConfigMap{ObjectMeta: object(name)}
		c.OwnerReferences = owners
		return c
	}
	for _, c := range []struct {
		name string
		run  func(p *plane)
		want []string
	}{
		{"owner is another of the same name", func(p *plane) {
			a := p.create(configMap("a"))
			ref := owner(kind.ConfigMap, a, false)
			ref.UID = "another"
			p.create(configMap("b", ref))
		}, []string{"a"}},
		{"owner never was", func(p *plane) {
			p.create(configMap("b", metav1.OwnerReference{APIVersion: "v1", Kind: "Pod", Name: "none", UID: "none"}))
		}, nil},
		{"owner of an unknown kind", func(p *plane) {
			p.create(configMap("b", metav1.OwnerReference{APIVersion: "example.com/v1", Kind: "Thing", Name: "x", UID: "x"}))
		}, []string{"b"}},
		{"one of two owners goes", func(p *plane) {
			a, b := p.create(configMap("a")), p.create(configMap("b"))
			p.create(configMap("c", owner(kind.ConfigMap, a, false), owner(kind.ConfigMap, b, false)))
			p.delete(kind.ConfigMap, "a", metav1.DeletePropagationBackground)
			equal(p, "owners", len(get[*corev1.ConfigMap](p, kind.ConfigMap, "c").OwnerReferences), 1)
		}, []string{"b", "c"}},
		{"one of two owners goes in the foreground", func(p *plane) {
			a, b := p.create(configMap("a")), p.create(configMap("b"))
			p.create(configMap("c", owner(kind.ConfigMap, a, true), owner(kind.ConfigMap, b, false)))
			p.delete(kind.ConfigMap, "a", metav1.DeletePropagationForeground)
		}, []string{"b", "c"}},
		{"a chain", func(p *plane) {
			a := p.create(configMap("a"))
			b := p.create(configMap("b", owner(kind.ConfigMap, a, true)))
			p.create(configMap("c", owner(kind.ConfigMap, b, true)))
			p.delete(kind.ConfigMap, "a", metav1.DeletePropagationForeground)
		}, nil},
		{"a circle", func(p *plane) {
			a := p.create(configMap("a"))
			b := p.create(configMap("b", owner(kind.ConfigMap, a, true)))
			modify(p, kind.ConfigMap, "a", func(c *corev1.ConfigMap) { c.OwnerReferences = []metav1.OwnerReference{owner(kind.ConfigMap, b, true)} })
			p.delete(kind.ConfigMap, "a", metav1.DeletePropagationForeground)
		}, nil},
		{"a dependent with a finalizer blocks", func(p *plane) {
			a := p.create(configMap("a"))
			b := configMap("b", owner(kind.ConfigMap, a, true))
			b.Finalizers = []string{"example.com/hold"}
			p.create(b)
			p.delete(kind.ConfigMap, "a", metav1.DeletePropagationForeground)
			equal(p, "held", strings.Join(p.names(kind.ConfigMap), ","), "a,b,kube-root-ca.crt")
			modify(p, kind.ConfigMap, "b", func(c *corev1.ConfigMap) { c.Finalizers = nil })
		}, nil},
		{"a dependent that does not block", func(p *plane) {
			a := p.create(configMap("a"))
			b := configMap("b", owner(kind.ConfigMap, a, false))
			b.Finalizers = []string{"example.com/hold"}
			p.create(b)
			p.delete(kind.ConfigMap, "a", metav1.DeletePropagationForeground)
		}, []string{"b"}},
		{"orphans of orphans", func(p *plane) {
			a := p.create(configMap("a"))
			b := p.create(configMap("b", owner(kind.ConfigMap, a, false)))
			p.create(configMap("c", owner(kind.ConfigMap, b, false)))
			p.delete(kind.ConfigMap, "a", metav1.DeletePropagationOrphan)
		}, []string{"b", "c"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inPlane(t, func(p *plane) {
				c.run(p)
				p.pass(time.Second)
				left := slices.DeleteFunc(p.names(kind.ConfigMap), func(name string) bool { return name == "kube-root-ca.crt" })
				if !slices.Equal(left, c.want) {
					t.Errorf("left are %q, want %q", left, c.want)
				}
			})
		})
	}
}
