package api

import (
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// perClient runs fn with a number of clients, each with a connection of its own.
func perClient(b *testing.B, p *plane, clients int, fn func(client *kubernetes.Clientset, i int) error) {
	b.Helper()
	b.SetParallelism(clients) // times GOMAXPROCS, 2 where figures are compared
	var n atomic.Int64
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		config := p.admin()
		client, err := kubernetes.NewForConfig(config)
		if err != nil {
			b.Error(err)
			return
		}
		for pb.Next() {
			if err := fn(client, int(n.Add(1))); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
}

// BenchmarkConfigMaps measures the API over TLS with client-go, as
// `make bench` does with a process of its own.
func BenchmarkConfigMaps(b *testing.B) {
	p := start(b, nil)
	value := strings.Repeat("x", 1024)
	maps := p.client().CoreV1().ConfigMaps("default")
	for i := range 1000 {
		must(maps.Create(b.Context(), configMap("m"+strconv.Itoa(i), value[:50]), metav1.CreateOptions{}))(b)
	}
	for _, clients := range []int{1, 12} {
		b.Run("get/"+strconv.Itoa(2*clients), func(b *testing.B) {
			perClient(b, p, clients, func(client *kubernetes.Clientset, i int) error {
				_, err := client.CoreV1().ConfigMaps("default").Get(b.Context(), "m"+strconv.Itoa(i%1000), metav1.GetOptions{})
				return err
			})
		})
		b.Run("update/"+strconv.Itoa(2*clients), func(b *testing.B) {
			perClient(b, p, clients, func(client *kubernetes.Clientset, i int) error {
				obj := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "m" + strconv.Itoa(i%1000)}, Data: map[string]string{"v": value + strconv.Itoa(i)}}
				_, err := client.CoreV1().ConfigMaps("default").Update(b.Context(), obj, metav1.UpdateOptions{})
				return err
			})
		})
	}
	b.Run("list1000", func(b *testing.B) {
		for b.Loop() {
			must(maps.List(b.Context(), metav1.ListOptions{}))(b)
		}
	})
}

// BenchmarkFanOut is one write that a thousand watchers see, until the last
// one has.
func BenchmarkFanOut(b *testing.B) {
	p := start(b, nil)
	const connections, each = 10, 100
	seen := make(chan struct{}, connections*each)
	for range connections {
		maps := p.client().CoreV1().ConfigMaps("default")
		for range each {
			w := must(maps.Watch(b.Context(), metav1.ListOptions{}))(b)
			defer w.Stop()
			go func() {
				for range w.ResultChan() {
					seen <- struct{}{}
				}
			}()
		}
	}
	maps := p.client().CoreV1().ConfigMaps("default")
	must(maps.Create(b.Context(), configMap("a", "0"), metav1.CreateOptions{}))(b)
	for range connections * each {
		<-seen
	}
	n := 0
	for b.Loop() {
		n++
		must(maps.Update(b.Context(), configMap("a", strconv.Itoa(n)), metav1.UpdateOptions{}))(b)
		for range connections * each {
			<-seen
		}
	}
}
