package node

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/skiff-sh/skiff/e2e/box"
)

// On a disk that is used too much, the image that nobody uses and nobody keeps goes,
// one that was imported stays.
func TestUnusedImagesGo(t *testing.T) {
	t.Parallel()
	c := ownCluster(t, "--kubelet-arg=image-gc-high-threshold=2", "--kubelet-arg=image-gc-low-threshold=1", "--kubelet-arg=minimum-image-ttl-duration=1s")
	if out, err := c.run(bytes.NewReader(ociArchive(t, "example.org/kept:1")), skiff, "images", "--data-dir", c.host.DataDir, "import", "-"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	images := func(args ...string) string {
		t.Helper()
		out, err := c.run(nil, skiff, append([]string{"images", "--data-dir", c.host.DataDir}, args...)...)
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return out
	}
	c.mustContain(images("ls"), box.Image)
	images("unpin", box.Image)
	if _, err := c.signal(unix.SIGTERM); err != nil { // the next look is soon after a start
		t.Fatal(err)
	}
	if err := c.start(); err != nil {
		t.Fatal(err)
	}
	c.retry(func() error {
		if strings.Contains(images("ls"), box.Image) {
			return errors.New("it is still there")
		}
		return nil
	})
	c.mustContain(images("ls"), "example.org/kept:1")
}
