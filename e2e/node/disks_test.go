package node

import (
	"encoding/json"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// room is what the summary tells of a part of a Pod on a file system.
type room struct {
	Name                                                                     string
	AvailableBytes, CapacityBytes, UsedBytes, InodesFree, Inodes, InodesUsed uint64
}

// disks is what the summary tells of a Pod's.
type disks struct {
	PodRef     struct{ Name, Namespace string }
	Containers []struct {
		Name         string
		RootFS, Logs room
	}
	Volume           []room
	EphemeralStorage room `json:"ephemeral-storage"`
}

// What a Pod has written is told by the node: by container, volume and in all.
func TestStatsOfDisks(t *testing.T) {
	c := shared(t)
	c.configMap("cm", map[string]string{"a": "text\n"})
	p := pod("writer", `dd if=/dev/zero of=/own bs=1M count=5 2>/dev/null; dd if=/dev/zero of=/dir/file bs=1M count=3 2>/dev/null
dd if=/dev/zero of=/memory/file bs=1M count=2 2>/dev/null; seq 1 20000; exec sleep 1000`)
	// With a limit it is looked at every ten seconds whoever asks.
	p.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceEphemeralStorage: resource.MustParse("1Gi")}
	mounted(p, "dir", corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}})
	mounted(p, "memory", corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}})
	mounted(p, "text", corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "cm"}}})
	mounted(p, "host", corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: t.TempDir()}})
	p = c.startPod(p)

	const mb = 1 << 20
	about := func(what string, r room, least, most uint64) error {
		if r.UsedBytes < least || r.UsedBytes > most || r.CapacityBytes == 0 || r.AvailableBytes == 0 || r.Inodes == 0 || r.InodesFree == 0 || r.InodesUsed == 0 {
			return fmt.Errorf("%s: %+v, want %d to %d bytes", what, r, least, most)
		}
		return nil
	}
	c.retry(func() error {
		d, err := c.disksOf(p)
		if err != nil {
			return err
		}
		if len(d.Containers) != 1 {
			return fmt.Errorf("containers: %+v", d.Containers)
		}
		volumes := map[string]room{}
		for _, v := range d.Volume {
			volumes[v.Name] = v
		}
		if _, told := volumes["host"]; told || len(volumes) != 4 { // its token is the fourth
			return fmt.Errorf("volumes: %+v", volumes)
		}
		for _, one := range []struct {
			what        string
			room        room
			least, most uint64
		}{
			{"root file system", d.Containers[0].RootFS, 5 * mb, 6 * mb},
			{"logs", d.Containers[0].Logs, mb / 2, 2 * mb},
			{"a directory", volumes["dir"], 3 * mb, 4 * mb},
			{"memory", volumes["memory"], 2 * mb, 3 * mb},
			{"a text", volumes["text"], 1, 100 << 10},
			{"in all", d.EphemeralStorage, 8*mb + mb/2, 12 * mb},
		} {
			if err := about(one.what, one.room, one.least, one.most); err != nil {
				return err
			}
		}
		return nil
	})
}

// disksOf reads what the Pod's node tells of its disks.
func (c *cluster) disksOf(p *corev1.Pod) (disks, error) {
	text, err := c.try("get", "--raw", "/api/v1/nodes/"+p.Spec.NodeName+"/proxy/stats/summary")
	if err != nil {
		return disks{}, fmt.Errorf("%w: %s", err, text)
	}
	var all struct{ Pods []disks }
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		return disks{}, err
	}
	for _, d := range all.Pods {
		if d.PodRef.Name == p.Name && d.PodRef.Namespace == p.Namespace {
			return d, nil
		}
	}
	return disks{}, fmt.Errorf("the summary does not have %s/%s", p.Namespace, p.Name)
}
