package api_test

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/skiff-sh/skiff/internal/api"
	"github.com/skiff-sh/skiff/internal/kind"
)

// The store does not sync here: what is measured is the API above it.

func BenchmarkCreateConfigMap(b *testing.B) {
	c := newCluster(b)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		c.create(kind.ConfigMap, configMap(fmt.Sprintf("c%d", i), "k", "v"))
	}
}

func BenchmarkCreatePod(b *testing.B) {
	c := newCluster(b)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		c.create(kind.Pod, pod(fmt.Sprintf("p%d", i)))
	}
}

func BenchmarkCreateService(b *testing.B) {
	c := newCluster(b)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		name := fmt.Sprintf("s%d", i)
		c.create(kind.Service, service(name))
		b.StopTimer()
		if i%1000 == 999 { // the range is finite
			if _, err := c.DeleteCollection(context.Background(), to(kind.Service, "default", ""), metav1.ListOptions{}, metav1.DeleteOptions{}); err != nil {
				b.Fatal(err)
			}
		}
		b.StartTimer()
	}
}

func BenchmarkGet(b *testing.B) {
	c := newCluster(b)
	c.create(kind.Pod, pod("p"))
	b.ReportAllocs()
	for b.Loop() {
		c.get(kind.Pod, "default", "p")
	}
}

func BenchmarkModifyPodStatus(b *testing.B) {
	c := newCluster(b)
	c.create(kind.Pod, pod("p"))
	req := to(kind.Pod, "default", "p")
	req.Subresource = "status"
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := c.Modify(context.Background(), req, func(obj kind.Object) error {
			obj.(*corev1.Pod).Status.Message = strconv.Itoa(i)
			return nil
		}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUpdateConfigMapParallel(b *testing.B) {
	c := newCluster(b)
	for i := range 64 {
		c.create(kind.ConfigMap, configMap(fmt.Sprintf("c%d", i)))
	}
	var next atomic.Int64
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			n := next.Add(1)
			cm := configMap(fmt.Sprintf("c%d", n%64), "n", strconv.FormatInt(n, 10))
			if _, err := c.Update(context.Background(), at(kind.ConfigMap, cm), cm); err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkPatch(b *testing.B) {
	for name, format := range map[string]types.PatchType{"merge": types.MergePatchType, "strategic": types.StrategicMergePatchType} {
		b.Run(name, func(b *testing.B) {
			c := newCluster(b)
			c.create(kind.Pod, pod("p"))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				patch := api.Patch{Type: format, Data: fmt.Appendf(nil, `{"metadata":{"labels":{"n":"%d"}}}`, i)}
				if _, err := c.Patch(context.Background(), to(kind.Pod, "default", "p"), patch); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkListPods(b *testing.B) {
	c := newCluster(b)
	for i := range 1000 {
		c.create(kind.Pod, pod(fmt.Sprintf("p%d", i), onNode(fmt.Sprintf("n%d", i%10))))
	}
	for name, options := range map[string]metav1.ListOptions{
		"all": {}, "node": {FieldSelector: "spec.nodeName=n3"}, "label": {LabelSelector: "a=b"},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.list(kind.Pod, "default", options)
			}
		})
	}
}

// An object that was applied on the server carries a record of its managers,
// which every update has to keep.
func BenchmarkModifyApplied(b *testing.B) {
	c := newCluster(b)
	manifest := "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec:\n  selector: {matchLabels: {a: b}}\n" +
		"  template:\n    metadata: {labels: {a: b}}\n    spec: {containers: [{name: main, image: busybox}]}\n"
	if _, _, err := c.Apply(context.Background(), to(kind.Deployment, "default", "d"), api.Patch{Data: []byte(manifest)}); err != nil {
		b.Fatal(err)
	}
	req := to(kind.Deployment, "default", "d")
	req.Subresource = "status"
	b.ReportAllocs()
	for i := int32(1); b.Loop(); i++ {
		if _, err := c.Modify(context.Background(), req, func(obj kind.Object) error {
			asDeployment(obj).Status.Replicas = i
			return nil
		}); err != nil {
			b.Fatal(err)
		}
	}
}
