package node

import (
	"bytes"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/compression"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	corev1 "k8s.io/api/core/v1"
)

// boxWith is the box image with other layers of the same content: compressed like
// this, and then the further ones.
func boxWith(t *testing.T, variable string, form types.MediaType, further ...v1.Layer) v1.Image {
	t.Helper()
	box := boxAs(t, variable)
	layers, err := box.Layers()
	if err != nil {
		t.Fatal(err)
	}
	file, err := box.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file = file.DeepCopy()
	file.RootFS.DiffIDs, file.History = nil, nil
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	if image, err = mutate.ConfigFile(image, file); err != nil {
		t.Fatal(err)
	}
	for i, layer := range layers {
		if layers[i], err = layerAs(layer, form); err != nil {
			t.Fatal(err)
		}
	}
	if image, err = mutate.AppendLayers(image, append(layers, further...)...); err != nil {
		t.Fatal(err)
	}
	return image
}

// layerAs is the layer in another form.
func layerAs(layer v1.Layer, form types.MediaType) (v1.Layer, error) {
	switch form {
	case types.OCIUncompressedLayer:
		plain, err := layer.Uncompressed()
		if err != nil {
			return nil, err
		}
		defer plain.Close()
		data, err := io.ReadAll(plain)
		return static.NewLayer(data, form), err
	case types.OCILayerZStd:
		return tarball.LayerFromOpener(layer.Uncompressed, tarball.WithCompression(compression.ZStd), tarball.WithMediaType(form))
	}
	return tarball.LayerFromOpener(layer.Uncompressed, tarball.WithMediaType(form))
}

// pushIndex puts an index of images, by architecture, into a registry.
func pushIndex(t *testing.T, host, repository string, form types.MediaType, images map[string]v1.Image) {
	t.Helper()
	index := mutate.IndexMediaType(empty.Index, form)
	for architecture, image := range images {
		push(t, host+"/"+repository+":"+architecture, image)
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{
			Platform: &v1.Platform{OS: "linux", Architecture: architecture},
		}})
	}
	data, err := index.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	upload(t, "PUT", "http://"+host+"/v2/"+repository+"/manifests/1", string(form), bytes.NewReader(data))
}

// Images of every form that registries have run: Docker's and OCI's manifests, lists
// and indexes of them by platform, and layers compressed or not.
func TestImagesOfEveryForm(t *testing.T) {
	c := shared(t)
	host := startRegistry(t, false)
	push(t, host+"/schema2:1", boxAs(t, "WHICH=schema2"))
	push(t, host+"/gzip:1", boxWith(t, "WHICH=gzip", types.OCILayer))
	push(t, host+"/zstd:1", boxWith(t, "WHICH=zstd", types.OCILayerZStd))
	push(t, host+"/plain:1", boxWith(t, "WHICH=plain", types.OCIUncompressedLayer))
	other := "s390x"
	pushIndex(t, host, "index", types.OCIImageIndex, map[string]v1.Image{
		other: boxWith(t, "WHICH=another", types.OCILayer), runtime.GOARCH: boxWith(t, "WHICH=index", types.OCILayerZStd),
	})
	pushIndex(t, host, "list", types.DockerManifestList, map[string]v1.Image{
		other: boxAs(t, "WHICH=another"), runtime.GOARCH: boxAs(t, "WHICH=list"),
	})
	pushIndex(t, host, "foreign", types.OCIImageIndex, map[string]v1.Image{other: boxAs(t, "WHICH=another")})
	for _, name := range []string{"schema2", "gzip", "zstd", "plain", "index", "list"} {
		c.create(withImage(once(name, "echo $WHICH"), host+"/"+name+":1", corev1.PullAlways))
	}
	c.create(withImage(once("foreign", "true"), host+"/foreign:1", ""))
	for _, name := range []string{"schema2", "gzip", "zstd", "plain", "index", "list"} {
		c.awaitPod(name, podEnded)
		if log := c.logs(name); log != name+"\n" {
			t.Errorf("%s: log %q", name, log)
		}
	}
	p := c.awaitPod("foreign", waitingFor("ImagePullBackOff"))
	c.mustContain(mainStatus(p).State.Waiting.Message, "no match for platform in manifest", "ErrImagePull: ")
}

// The registry's own words reach whoever asks why an image does not come.
func TestRegistriesThatFail(t *testing.T) {
	c := shared(t)
	closed := startRegistry(t, true)
	push(t, closed+"/private:1", boxAs(t, "A=b"))
	c.create(withImage(once("nobody", "true"), "127.0.0.1:1/app:1", ""))
	c.create(withImage(once("stranger", "true"), closed+"/private:1", ""))
	c.awaitEvent("nobody", "Failed", "Error: RegistryUnavailable")
	p := c.awaitPod("nobody", waitingFor("ImagePullBackOff"))
	c.mustContain(mainStatus(p).State.Waiting.Message, "connection refused",
		`Back-off pulling image "127.0.0.1:1/app:1": RegistryUnavailable: image pull failed for 127.0.0.1:1/app:1 because the registry is unavailable: `)
	p = c.awaitPod("stranger", waitingFor("ImagePullBackOff"))
	if message := mainStatus(p).State.Waiting.Message; !strings.Contains(message, "401 Unauthorized") {
		t.Errorf("the message is %q", message)
	}
}

// Several secrets, among them one that is not there, of one that fits by a wildcard and
// a path.
func TestPullSecretsThatFit(t *testing.T) {
	c := shared(t)
	host := startRegistry(t, true)
	image := host + "/team/private:1"
	push(t, image, boxAs(t, "WHICH=private"))
	wildcard := "127.0.*.*:" + host[strings.Index(host, ":")+1:]
	for name, of := range map[string]struct{ server, password string }{
		"elsewhere": {"example.org", password},
		"old":       {host, "changed since"},
		"broad":     {wildcard + "/team", password},
	} {
		c.kubectl("create", "secret", "docker-registry", name, "--docker-server="+of.server,
			"--docker-username="+userName, "--docker-password="+of.password)
	}
	p := withImage(once("friend", "echo $WHICH"), image, "")
	p.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "gone"}, {Name: "elsewhere"}, {Name: "old"}, {Name: "broad"}}
	if _, log := c.finish(p); log != "private\n" {
		t.Errorf("log %q", log)
	}
	c.awaitEvent("friend", "FailedToRetrieveImagePullSecret", "Unable to retrieve some image pull secrets (gone); attempting to pull the image may not succeed.")

	t.Log("what is present by somebody's secret is not there for who has none")
	c.create(withImage(once("stranger", "true"), image, corev1.PullIfNotPresent))
	c.awaitPod("stranger", waitingFor("ImagePullBackOff"))
	c.create(withImage(once("never", "true"), image, corev1.PullNever))
	c.awaitPod("never", waitingFor("ErrImageNeverPull"))
	p = withImage(once("known", "echo $WHICH"), image, corev1.PullNever)
	p.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "broad"}}
	if _, log := c.finish(p); log != "private\n" {
		t.Errorf("log %q", log)
	}

	t.Log("a public image comes with credentials that nobody knows")
	open := startRegistry(t, false)
	push(t, open+"/public:1", boxAs(t, "WHICH=public"))
	c.kubectl("create", "secret", "docker-registry", "needless", "--docker-server="+open, "--docker-username=x", "--docker-password=y")
	p = withImage(once("public", "echo $WHICH"), open+"/public:1", "")
	p.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "needless"}}
	if _, log := c.finish(p); log != "public\n" {
		t.Errorf("log %q", log)
	}
}
