package node

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	corev1 "k8s.io/api/core/v1"

	"github.com/skiff-sh/skiff/e2e/box"
)

// Who may use the private registry.
const userName, password = "someone", "secret"

// startRegistry returns the address of a registry on the loopback, which asks
// for the account if it is private.
func startRegistry(t *testing.T, private bool) string {
	t.Helper()
	handler := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, pass, _ := r.BasicAuth()
		if private && (user != userName || pass != password) {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"errors":[{"code":"UNAUTHORIZED","message":"log in"}]}`)
			return
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

func boxAs(t *testing.T, variable string) v1.Image {
	t.Helper()
	image, err := tarball.ImageFromPath(boxArchive(), nil)
	if err != nil {
		t.Fatal(err)
	}
	file, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file = file.DeepCopy()
	file.Config.Env = append(file.Config.Env, variable)
	image, err = mutate.ConfigFile(image, file)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// upload sends something to a registry of startRegistry.
func upload(t *testing.T, method, url, mediaType string, body io.Reader) {
	t.Helper()
	request, err := http.NewRequest(method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	request.SetBasicAuth(userName, password)
	request.Header.Set("Content-Type", mediaType)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if text, _ := io.ReadAll(response.Body); response.StatusCode != http.StatusCreated {
		t.Fatalf("%s %s: %s: %s", method, url, response.Status, text)
	}
}

// push puts an image into a registry of startRegistry; ref is host/name:tag.
func push(t *testing.T, ref string, image v1.Image) {
	t.Helper()
	host, rest, _ := strings.Cut(ref, "/")
	repository, tag, _ := strings.Cut(rest, ":")
	send := func(method, path, mediaType string, body io.Reader) {
		t.Helper()
		upload(t, method, "http://"+host+"/v2/"+repository+path, mediaType, body)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	layers, err := image.Layers()
	must(err)
	for _, layer := range layers {
		digest, err := layer.Digest()
		must(err)
		body, err := layer.Compressed()
		must(err)
		send("POST", "/blobs/uploads/?digest="+digest.String(), "application/octet-stream", body)
	}
	digest, err := image.ConfigName()
	must(err)
	file, err := image.RawConfigFile()
	must(err)
	send("POST", "/blobs/uploads/?digest="+digest.String(), "application/octet-stream", bytes.NewReader(file))
	mediaType, err := image.MediaType()
	must(err)
	manifest, err := image.RawManifest()
	must(err)
	send("PUT", "/manifests/"+tag, string(mediaType), bytes.NewReader(manifest))
}

// withImage is a Pod that runs a script in another image.
func withImage(p *corev1.Pod, image string, policy corev1.PullPolicy) *corev1.Pod {
	p.Spec.Containers[0].Image, p.Spec.Containers[0].ImagePullPolicy = image, policy
	return p
}

func TestPull(t *testing.T) {
	c := shared(t)
	host := startRegistry(t, false)
	push(t, host+"/app:1", boxAs(t, "WHICH=first"))
	p, log := c.finish(withImage(once("first", "echo $WHICH"), host+"/app:1", ""))
	if log != "first\n" || !strings.HasPrefix(mainStatus(p).ImageID, host+"/app@sha256:") {
		t.Errorf("log %q, image ID %s", log, mainStatus(p).ImageID)
	}
	c.awaitEvent("first", "Pulling", `Pulling image "`+host+`/app:1"`)
	c.awaitEvent("first", "Pulled", `Successfully pulled image "`+host+`/app:1" in `)

	t.Log("what moved is pulled again only by those who ask for it always")
	push(t, host+"/app:1", boxAs(t, "WHICH=second"))
	if _, log := c.finish(withImage(once("present", "echo $WHICH"), host+"/app:1", corev1.PullIfNotPresent)); log != "first\n" {
		t.Errorf("if not present: %q", log)
	}
	if _, log := c.finish(withImage(once("always", "echo $WHICH"), host+"/app:1", corev1.PullAlways)); log != "second\n" {
		t.Errorf("always: %q", log)
	}
	digest := mainStatus(p).ImageID
	if _, log := c.finish(withImage(once("digest", "echo $WHICH"), digest, "")); log != "first\n" {
		t.Errorf("by digest: %q", log)
	}
}

func TestMissingImage(t *testing.T) {
	c := shared(t)
	host := startRegistry(t, false)
	image := host + "/late:1"
	c.create(withImage(once("late", "echo came"), image, ""))
	c.awaitPod("late", waitingFor("ErrImagePull"))
	p := c.awaitPod("late", waitingFor("ImagePullBackOff"))
	c.mustContain(mainStatus(p).State.Waiting.Message, `Back-off pulling image "`+image+`"`)
	c.awaitEvent("late", "Failed", `Failed to pull image "`+image+`"`)
	c.awaitEvent("late", "Failed", "Error: ErrImagePull")
	c.awaitEvent("late", "BackOff", `Back-off pulling image "`+image+`"`)
	push(t, image, boxAs(t, "A=b"))
	c.awaitPod("late", podEnded)

	c.create(withImage(once("never", "true"), host+"/other:1", corev1.PullNever))
	c.awaitPod("never", waitingFor("ErrImageNeverPull"))
	c.create(withImage(once("bad", "true"), "Not:A:Name", ""))
	c.awaitPod("bad", waitingFor("InvalidImageName"))
}

func waitingFor(reason string) func(*corev1.Pod) bool {
	return func(p *corev1.Pod) bool {
		w := mainStatus(p).State.Waiting
		return w != nil && w.Reason == reason
	}
}

func TestPullSecret(t *testing.T) {
	c := shared(t)
	host := startRegistry(t, true)
	image := host + "/private:1"
	push(t, image, boxAs(t, "WHICH=private"))
	c.create(withImage(once("stranger", "true"), image, ""))
	c.awaitPod("stranger", waitingFor("ErrImagePull"))
	c.kubectl("create", "secret", "docker-registry", "login", "--docker-server="+host,
		"--docker-username="+userName, "--docker-password="+password)
	p := withImage(once("friend", "echo $WHICH"), image, "")
	p.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "login"}}
	if _, log := c.finish(p); log != "private\n" {
		t.Errorf("log %q", log)
	}
}

func TestImagesCommand(t *testing.T) {
	c := shared(t)
	images := func(in io.Reader, args ...string) string {
		t.Helper()
		out, err := c.run(in, skiff, append([]string{"images", "--data-dir", c.host.DataDir}, args...)...)
		if err != nil {
			t.Errorf("skiff images %s: %v: %s", strings.Join(args, " "), err, out)
		}
		return out
	}
	const ref = "example.org/oci:2"
	archive := ociArchive(t, ref)
	file := filepath.Join(t.TempDir(), "oci.tar")
	if err := os.WriteFile(file, archive, 0o644); err != nil {
		t.Fatal(err)
	}
	c.mustContain(images(nil, "import", file), ref)
	c.mustContain(images(bytes.NewReader(archive), "import", "-"), ref)
	c.mustContain(images(nil, "ls"), ref, box.Image)
	if _, log := c.finish(withImage(once("imported", "echo $WHICH"), ref, corev1.PullNever)); log != "oci\n" {
		t.Errorf("log %q", log)
	}
	c.kubectl("delete", "pod", "imported")
	images(nil, "rm", ref)
	if out := images(nil, "ls"); strings.Contains(out, ref) {
		t.Errorf("still there: %s", out)
	}
	host := startRegistry(t, false)
	push(t, host+"/pulled:1", boxAs(t, "A=b"))
	c.mustContain(images(nil, "pull", host+"/pulled:1"), host+"/pulled:1")

	out, err := c.run(strings.NewReader("no archive"), skiff, "images", "--data-dir", c.host.DataDir, "import", "-")
	if err == nil {
		t.Error("imported garbage")
	}
	c.mustContain(out, "expected an OCI or docker archive")
}

// ociArchive returns an OCI layout with one image as a tar file.
func ociArchive(t *testing.T, ref string) []byte {
	t.Helper()
	return archiveWith(t, ref, boxAs(t, "WHICH=oci")).Bytes()
}

// archiveWith is an OCI archive of one image.
func archiveWith(t *testing.T, ref string, image v1.Image) *bytes.Buffer {
	t.Helper()
	dir := t.TempDir()
	index, err := layout.Write(dir, empty.Index)
	if err == nil {
		err = index.AppendImage(image, layout.WithAnnotations(map[string]string{"io.containerd.image.name": ref}))
	}
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := errors.Join(w.AddFS(os.DirFS(dir)), w.Close()); err != nil {
		t.Fatal(err)
	}
	return &buf
}
