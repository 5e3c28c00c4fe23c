package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// mounted gives the Pod a volume, mounted at /NAME.
func mounted(p *corev1.Pod, name string, source corev1.VolumeSource) *corev1.VolumeMount {
	p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: source})
	main := &p.Spec.Containers[0]
	main.VolumeMounts = append(main.VolumeMounts, corev1.VolumeMount{Name: name, MountPath: "/" + name})
	return &main.VolumeMounts[len(main.VolumeMounts)-1]
}

func TestEmptyDirs(t *testing.T) {
	c := shared(t)
	p := once("dirs", "stat -c %a /plain; stat -f -c %T /memory; df -m /memory | tail -1; echo x >/plain/f; cat /second/f")
	size := resource.MustParse("8Mi")
	mounted(p, "plain", corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}})
	mounted(p, "memory", corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory, SizeLimit: &size}})
	main := &p.Spec.Containers[0]
	main.VolumeMounts = append(main.VolumeMounts, corev1.VolumeMount{Name: "plain", MountPath: "/second", ReadOnly: true})
	p, log := c.finish(p)
	c.mustContain(log, "777\ntmpfs\n", " 8 ", "\nx\n")
	dir := filepath.Join(c.host.DataDir, "agent", "pods", string(p.UID))
	if _, err := os.Stat(dir); err != nil {
		t.Error(err)
	}
	c.kubectl("delete", "pod", "dirs")
	c.retry(func() error {
		if _, err := os.Stat(dir); err == nil {
			return os.ErrExist
		}
		return nil
	})
}

func TestSubPaths(t *testing.T) {
	c := shared(t)
	c.configMap("cm", map[string]string{"conf": "one file"})
	p := once("sub", "cat /etc/app.conf; ls /etc/passwd; echo x >/plain/f; find /all -type f")
	mounted(p, "cm", corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "cm"}}})
	mounted(p, "plain", corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}})
	main := &p.Spec.Containers[0]
	main.Env = []corev1.EnvVar{{Name: "NAME", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}}}
	main.VolumeMounts = []corev1.VolumeMount{
		{Name: "cm", MountPath: "/etc/app.conf", SubPath: "conf"},
		{Name: "plain", MountPath: "/plain", SubPathExpr: "of/$(NAME)"}, {Name: "plain", MountPath: "/all"},
	}
	_, log := c.finish(p)
	if log != "one file/etc/passwd\n/all/of/sub/f\n" {
		t.Errorf("log %q", log)
	}
	out, err := c.tryWith(strings.NewReader(`{apiVersion: v1, kind: Pod, metadata: {name: out}, spec: {volumes: [{name: v, emptyDir: {}}],
containers: [{name: main, image: x, volumeMounts: [{name: v, mountPath: /v, subPath: ../../etc}]}]}}`), "create", "-f", "-")
	if err == nil {
		t.Error("a path out of the volume was taken")
	}
	c.mustContain(out, "must not contain '..'")
}
