package node

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// What is reserved is not offered to Pods, and all of them together do not get it.
func TestReserved(t *testing.T) {
	t.Parallel()
	m := ownMachine(t, "--kubelet-arg=kube-reserved=cpu=100m,memory=256Mi", "--kubelet-arg=system-reserved=memory=256Mi")
	if err := m.start(); err != nil {
		t.Fatal(err)
	}
	nodes, err := m.client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s := nodes.Items[0].Status
	if less := s.Capacity.Memory().Value() - s.Allocatable.Memory().Value(); less != 612<<20 { // and 100Mi that stay free
		t.Errorf("%d bytes of memory are not for Pods", less)
	}
	if less := s.Capacity.Cpu().MilliValue() - s.Allocatable.Cpu().MilliValue(); less != 100 {
		t.Errorf("%d m of CPU are not for Pods", less)
	}
	points, err := cgroupMounts()
	if err != nil {
		t.Fatal(err)
	}
	limits := map[string]bool{}
	for _, point := range points {
		for _, file := range []string{"memory.limit_in_bytes", "memory.max"} {
			if data, err := os.ReadFile(filepath.Join(point, m.host.CgroupRoot, file)); err == nil {
				limits[strings.TrimSpace(string(data))] = true
			}
		}
	}
	if want := fmt.Sprint(s.Capacity.Memory().Value() - 512<<20); len(limits) != 1 || !limits[want] {
		t.Errorf("the limits of all Pods are %v, want %s", limits, want)
	}
}
