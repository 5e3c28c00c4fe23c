package node

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// entry is one of a layer.
type entry struct {
	tar.Header
	text string
}

// layerOf is a compressed layer.
func layerOf(t *testing.T, entries ...entry) v1.Layer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		e.Size = int64(len(e.text))
		if e.Mode == 0 {
			e.Mode = 0o755
		}
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	return layer
}

// A stranger's image writes nothing on the machine and gives no device to its Pod,
// whether it was pulled or imported.
func TestHostileImages(t *testing.T) {
	c := shared(t)
	host := startRegistry(t, false)
	outside := t.TempDir()
	witness := filepath.Join(outside, "there")
	for _, path := range []string{witness, filepath.Join(outside, "spared")} {
		if err := os.WriteFile(path, []byte("as it was"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	up := strings.Repeat("../", 30)
	harmless := boxWith(t, "A=b", types.OCILayer,
		layerOf(t,
			entry{tar.Header{Name: up + outside[1:] + "/there"}, "climbed"},
			entry{tar.Header{Name: "link", Typeflag: tar.TypeSymlink, Linkname: outside}, ""},
			entry{tar.Header{Name: "link/through"}, "through a link"},
			entry{tar.Header{Name: "below", Typeflag: tar.TypeSymlink, Linkname: up + outside[1:]}, ""},
			entry{tar.Header{Name: "below/.wh.spared"}, ""},
			entry{tar.Header{Name: "disk", Typeflag: tar.TypeBlock, Devmajor: 1, Mode: 0o666}, ""},
			entry{tar.Header{Name: "memory", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 1, Mode: 0o666}, ""},
		),
		layerOf(t, entry{tar.Header{Name: "link/again"}, "from the next layer"}))
	refused := boxWith(t, "A=b", types.OCILayer, layerOf(t, entry{tar.Header{Name: "hard", Typeflag: tar.TypeLink, Linkname: witness}, ""}))
	push(t, host+"/harmless:1", harmless)
	push(t, host+"/refused:1", refused)
	take := func(ref string, image v1.Image) (string, error) {
		return c.run(archiveWith(t, ref, image), skiff, "images", "--data-dir", c.host.DataDir, "import", "-")
	}
	if out, err := take("example.org/harmless:1", harmless); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	out, err := take("example.org/refused:1", refused)
	if err == nil {
		t.Error("a hard link to the machine's files was taken")
	}
	c.mustContain(out, `import image "example.org/refused:1"`, "no such file or directory")

	script := fmt.Sprintf("cat %[1]s/through /link/again; head -c 1 /disk /memory 2>&1; ls %[1]s", outside)
	c.create(withImage(once("pulled", script), host+"/harmless:1", ""))
	c.create(withImage(once("imported", script), "example.org/harmless:1", corev1.PullNever))
	c.create(withImage(once("refused", "true"), host+"/refused:1", ""))
	for _, name := range []string{"pulled", "imported"} {
		c.awaitPod(name, podEnded)
		log := c.logs(name)
		c.mustContain(log, "through a link", "from the next layer", "/disk: Operation not permitted", "/memory: Operation not permitted")
		if strings.Contains(log, "as it was") {
			t.Errorf("%s: the Pod sees the machine's files: %s", name, log)
		}
	}
	p := c.awaitPod("refused", waitingFor("ImagePullBackOff"))
	c.mustContain(mainStatus(p).State.Waiting.Message, "failed to extract layer")
	if out, err := c.run(nil, skiff, "images", "--data-dir", c.host.DataDir, "ls"); err != nil || strings.Contains(out, "refused") {
		t.Errorf("%v: %s", err, out)
	}
	if files, err := os.ReadDir(outside); err != nil || len(files) != 2 {
		t.Errorf("outside there are %v, %v", files, err)
	}
	if text, err := os.ReadFile(witness); string(text) != "as it was" {
		t.Errorf("the witness is %q, %v", text, err)
	}
}

// bomb is a small layer that unpacks to so many megabytes.
func bomb(t *testing.T, megabytes int) v1.Layer {
	t.Helper()
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(z)
	if err := w.WriteHeader(&tar.Header{Name: "bomb", Mode: 0o644, Size: int64(megabytes) << 20}); err != nil {
		t.Fatal(err)
	}
	zeros := make([]byte, 1<<20)
	for range megabytes {
		if _, err := w.Write(zeros); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	return layer
}

// An image that is larger than the disk is refused before it has filled it: nothing of
// it stays, and Pods and their node go on.
func TestImageLargerThanTheDisk(t *testing.T) {
	t.Parallel()
	m := ownMachine(t)
	smallDisk(t, m, m.host.DataDir, 500)
	c := m.startCluster(t)
	web := c.startPod(pod("web", ""))
	image := boxWith(t, "A=b", types.OCILayer, layerOf(t, entry{tar.Header{Name: "small"}, "text"}), bomb(t, 600))
	kept := c.stored()

	const ref = "example.org/bomb:1"
	out, err := c.run(archiveWith(t, ref, image), skiff, "images", "--data-dir", c.host.DataDir, "import", "-")
	if err == nil {
		t.Error("imported")
	}
	c.mustContain(out, `import image "`+ref+`"`, "no space left on device: the node's disk is full")
	c.awaitStored(kept)

	host := startRegistry(t, false)
	c.letReach(host)
	push(t, host+"/bomb:1", image)
	c.create(withImage(once("bomb", "true"), host+"/bomb:1", ""))
	p := c.awaitPod("bomb", waitingFor("ImagePullBackOff"))
	c.mustContain(mainStatus(p).State.Waiting.Message, "failed to extract layer", "would leave too little of the disk", "the node's disk is full")
	c.awaitEvent("bomb", "Failed", `Failed to pull image "`+host+`/bomb:1"`)
	c.kubectl("delete", "pod", "bomb")
	c.awaitStored(kept)

	node, err := c.client.CoreV1().Nodes().List(c.ctx, metav1.ListOptions{})
	if err != nil || len(node.Items) != 1 {
		t.Fatal(err)
	}
	for _, condition := range node.Items[0].Status.Conditions {
		if condition.Type == corev1.NodeDiskPressure && condition.Status != corev1.ConditionFalse {
			t.Errorf("the node says %s", condition.Message)
		}
	}
	if p := c.awaitPod("web", podReady); mainStatus(p).ContainerID != mainStatus(web).ContainerID {
		t.Error("the running Pod was touched")
	}
	if _, log := c.finish(once("after", "echo works")); log != "works\n" {
		t.Errorf("log %q", log)
	}
}

// letReach has a registry of startRegistry be at the same address inside the machine.
func (c *cluster) letReach(host string) {
	c.t.Helper()
	server := httptest.NewUnstartedServer(httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: host}))
	server.Listener.Close()
	err := c.inside(func() (err error) {
		server.Listener, err = net.Listen("tcp", host)
		return err
	})
	if err != nil {
		c.t.Fatal(err)
	}
	server.Start()
	c.t.Cleanup(server.Close)
}

// stored are the blobs and snapshots on the machine's disk.
func (c *cluster) stored() string {
	c.t.Helper()
	root := filepath.Join(c.host.DataDir, "agent", "containerd")
	var all []string
	for _, pattern := range []string{"content/blobs/*/*", "content/ingest/*", "overlayfs/snapshots/*"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			c.t.Fatal(err)
		}
		all = append(all, found...)
	}
	return strings.Join(all, "\n")
}

// awaitStored waits until there is what was there.
func (c *cluster) awaitStored(kept string) {
	c.t.Helper()
	c.retry(func() error {
		if now := c.stored(); now != kept {
			return fmt.Errorf("there is\n%s\nand there was\n%s", now, kept)
		}
		return nil
	})
}
