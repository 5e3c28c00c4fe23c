package node

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/moby/sys/mountinfo"
	corev1 "k8s.io/api/core/v1"
)

// dataImage has one file, with the text, in each of two layers, and a link.
func dataImage(t *testing.T, text string) v1.Image {
	t.Helper()
	image := v1.Image(empty.Image)
	for _, file := range []tar.Header{
		{Name: "top", Mode: 0o644, Size: int64(len(text))},
		{Name: "dir/", Typeflag: tar.TypeDir, Mode: 0o755},
	} {
		var buf bytes.Buffer
		w := tar.NewWriter(&buf)
		headers := []tar.Header{file}
		if file.Typeflag == tar.TypeDir {
			headers = append(headers,
				tar.Header{Name: "dir/below", Mode: 0o644, Size: int64(len(text))},
				tar.Header{Name: "out", Typeflag: tar.TypeSymlink, Linkname: "../../../../etc"})
		}
		for _, h := range headers {
			if err := w.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
			if h.Size > 0 {
				if _, err := io.WriteString(w, text); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil })
		if err == nil {
			image, err = mutate.AppendLayers(image, layer)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return image
}

func imageSource(ref string, policy corev1.PullPolicy) corev1.VolumeSource {
	return corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: ref, PullPolicy: policy}}
}

func TestImageVolumes(t *testing.T) {
	c := shared(t)
	host := startRegistry(t, false)
	ref := host + "/data:1"
	push(t, ref, dataImage(t, "first\n"))
	p := pod("reader", "sleep 1000")
	mounted(p, "data", imageSource(ref, corev1.PullAlways))
	mounted(p, "part", imageSource(ref, "")).SubPath = "dir"
	p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: "unused", VolumeSource: imageSource(host+"/absent:1", "")})
	p = c.startPod(p)
	log := c.exec("reader", "cat /data/top /data/dir/below /part/below; touch /data/x 2>&1; ls -A /part; grep ' /data ' /proc/mounts")
	c.mustContain(log, "first\nfirst\nfirst\n", "Read-only file system", "\nbelow\n")
	c.awaitEvent("reader", "Pulled", `Successfully pulled image "`+ref+`"`)
	c.awaitEvent("reader", "Pulled", `Container image "`+ref+`" already present on machine`)

	t.Log("what is mounted stays when the image goes, and for a container's next start")
	push(t, ref, dataImage(t, "second\n"))
	if out, err := c.run(nil, skiff, "images", "--data-dir", c.host.DataDir, "rm", ref); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if log := c.exec("reader", "cat /data/dir/below"); log != "first\n" {
		t.Errorf("after the image went: %q", log)
	}

	t.Log("a Pod made later has what the name means by then")
	later := once("later", "cat /data/top")
	mounted(later, "data", imageSource(ref, corev1.PullAlways))
	if _, log := c.finish(later); log != "second\n" {
		t.Errorf("the later Pod has %q", log)
	}

	dir := filepath.Join(c.host.DataDir, "agent", "pods", string(p.UID))
	if mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir)); err != nil || len(mounts) == 0 {
		t.Errorf("%v: the test does not see the Pod's mounts", err)
	}
	c.kubectl("delete", "pod", "reader")
	c.retry(func() error {
		mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
		if err == nil && len(mounts) > 0 {
			err = errors.New("still mounted: " + mounts[0].Mountpoint)
		}
		return err
	})
}

func TestImageVolumesThatCannotBe(t *testing.T) {
	c := shared(t)
	host := startRegistry(t, false)
	push(t, host+"/data:1", dataImage(t, "text\n"))
	for name, want := range map[string]struct{ ref, subPath, reason, text string }{
		"absent":  {host + "/absent:1", "", "ImagePullBackOff", `Back-off pulling image "` + host + `/absent:1"`},
		"subpath": {host + "/data:1", "nothing", "CreateContainerError", "ImageVolumeMountFailed"},
		"file":    {host + "/data:1", "top", "CreateContainerError", "only directory subpath is supported"},
		"outside": {host + "/data:1", "out", "CreateContainerError", "ImageVolumeMountFailed"},
	} {
		p := pod(name, "sleep 1000")
		mounted(p, "data", imageSource(want.ref, "")).SubPath = want.subPath
		c.create(p)
		got := c.awaitPod(name, func(p *corev1.Pod) bool {
			w := mainStatus(p).State.Waiting
			return w != nil && w.Reason == want.reason
		})
		c.mustContain(mainStatus(got).State.Waiting.Message, want.text)
	}
	never := pod("never", "sleep 1000")
	mounted(never, "data", imageSource(host+"/absent:1", corev1.PullNever))
	c.create(never)
	c.awaitEvent("never", "ErrImageNeverPull", "is not present with pull policy of Never")
}
