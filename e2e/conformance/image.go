package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// archive holds all images.
const archive = "images.tar"

// The places that upstream's names begin with.
const (
	registry = "registry.k8s.io/"
	ofTests  = registry + "e2e-test-images/"
)

// image is one that specs run: layers and what a container of it starts with.
type image struct {
	names  []string
	layers []string // names of recipes
	config v1.Config
}

const (
	search   = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	agnhost  = "/agnhost"
	nonroot  = "65535:65535"
	debian   = "debian"
	shell    = "busybox"
	testHTTP = "test-webserver"
)

// images are all that conformance specs name. Where upstream asks for an older
// version of a program than its module has, it gets the module's under the older
// name: no spec looks at more than that the two differ.
var images = []image{
	{[]string{ofTests + "agnhost:2.63.0", ofTests + "agnhost:2.55"}, []string{debian, "agnhost"},
		v1.Config{Entrypoint: []string{agnhost}, Cmd: []string{"pause"}, ExposedPorts: ports("80", "8080", "8081", "9376", "5000")}},
	{[]string{ofTests + "kitten:1.8"}, []string{debian, "agnhost", "kitten"},
		v1.Config{Entrypoint: []string{agnhost}, Cmd: []string{testHTTP}}},
	{[]string{ofTests + "nautilus:1.8"}, []string{debian, "agnhost", "nautilus"},
		v1.Config{Entrypoint: []string{agnhost}, Cmd: []string{testHTTP}}},
	{[]string{ofTests + "glibc-dns-testing:2.0.0"}, []string{debian}, v1.Config{Cmd: []string{"bash"}}},
	{[]string{ofTests + "busybox:1.37.0-1"}, []string{shell}, v1.Config{Cmd: []string{"sh"}}},
	{[]string{ofTests + "nginx:1.15-4", ofTests + "nginx:1.27-0"}, []string{shell, "nginx"},
		v1.Config{Cmd: []string{"/usr/sbin/nginx"}, ExposedPorts: ports("80")}},
	{[]string{ofTests + "nonewprivs:1.4"}, []string{shell, "nonewprivs"}, v1.Config{Cmd: []string{"nnp"}}},
	{[]string{ofTests + "sample-apiserver:1.29.2"}, []string{"sample-apiserver"}, v1.Config{Entrypoint: []string{"/sample-apiserver"}}},
	{[]string{registry + "etcd:3.6.8-0"}, []string{"etcd"}, v1.Config{}},
	{[]string{registry + "pause:3.10.2", registry + "pause:3.10", registry + "pause:3.6"}, []string{"pause"},
		v1.Config{Entrypoint: []string{"/pause"}, User: nonroot}},
}

func ports(numbers ...string) map[string]struct{} {
	all := map[string]struct{}{}
	for _, n := range numbers {
		all[n+"/tcp"] = struct{}{}
	}
	return all
}

// recipes say how each layer is filled.
func recipes(ctx context.Context, p place, sources string) map[string]func(*tree) error {
	at := func(parts ...string) string { return filepath.Join(append([]string{sources}, parts...)...) }
	picture := func(name string) func(*tree) error {
		return func(t *tree) error {
			t.copy(name+".jpg", 0o644, at("test/images", name, "html", name+".jpg"))
			t.copy("data.json", 0o644, at("test/images", name, "html", "data.json"))
			return nil
		}
	}
	return map[string]func(*tree) error{
		debian: func(t *tree) error { return fillDebian(ctx, t, p.built("debian")) },
		shell:  func(t *tree) error { return fillShell(ctx, t, p.built("debian")) },
		"agnhost": func(t *tree) error {
			t.copy("agnhost", 0o755, p.built("agnhost"))
			t.link("agnhost-2", "agnhost") // specs replace the entrypoint with it
			for _, name := range []string{"localhost.crt", "localhost.key"} {
				t.copy(name, 0o644, at("test/images/agnhost/porter", name))
			}
			t.directory("uploads", 0o755)
			return nil
		},
		"kitten": func(t *tree) error {
			t.text("etc/os-release", "NAME=\"Alpine Linux\"\nID=alpine\nPRETTY_NAME=\"Alpine Linux (a stand-in)\"\n") // by which specs know the image
			return picture("kitten")(t)
		},
		"nautilus": picture("nautilus"),
		"nginx": func(t *tree) error {
			t.text("usr/share/nginx/html/index.html", "<!DOCTYPE html>\n<title>Welcome to nginx!</title>\n<h1>Welcome to nginx!</h1>\n")
			return goProgram(ctx, t, p, "usr/sbin/nginx", "./e2e/conformance/webserver")
		},
		"nonewprivs": func(t *tree) error { t.copy("usr/local/bin/nnp", 0o6755, p.built("nonewprivs")); return nil },
		"sample-apiserver": func(t *tree) error {
			t.copy("sample-apiserver", 0o755, p.built("sample-apiserver"))
			t.directory("tmp", 0o1777)
			return nil
		},
		"etcd": func(t *tree) error {
			t.copy("usr/local/bin/etcd", 0o755, p.built("etcd"))
			t.directory("tmp", 0o1777)
			return nil
		},
		"pause": func(t *tree) error { return fillPause(ctx, t, p, at("build/pause/linux/pause.c")) },
	}
}

// fillShell has busybox with all its commands. The shell that is found first is
// another: Debian's busybox, as one, runs its own commands in place of those that are
// there, and keeps variables like "data-1" from them. Who asks for /bin/sh gets
// busybox's, whose words specs know.
func fillShell(ctx context.Context, t *tree, downloads string) error {
	out, err := exec.Command("busybox", "--list").Output()
	if err != nil {
		return fmt.Errorf("list busybox's commands: %w", err)
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return err
	}
	for _, name := range strings.Fields(string(out)) {
		t.link("bin/"+name, "busybox")
	}
	t.copy("bin/busybox", 0o755, busybox)
	if err := unpackPackages(ctx, t, downloads, "bash-static"); err != nil {
		return err
	}
	for _, dir := range []string{"dev", "etc", "home", "proc", "root", "sys", "usr", "usr/bin", "usr/local", "usr/local/bin", "var"} {
		t.directory(dir, 0o755)
	}
	t.link("bin/bash", "bash-static")
	t.link("usr/local/bin/sh", "/bin/bash-static")
	t.directory("tmp", 0o1777)
	t.text("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n")
	t.text("etc/group", "root:x:0:\nnogroup:x:65534:\n")
	return nil
}

// fillDebian has the commands that specs run in upstream's agnhost image, and
// its users.
func fillDebian(ctx context.Context, t *tree, downloads string) error {
	if err := fillShell(ctx, t, downloads); err != nil {
		return err
	}
	err := unpackPackages(ctx, t, downloads, "curl", "bind9-dnsutils", "netcat-openbsd", "libc-bin", "ca-certificates")
	t.link("bin/nc", "nc.openbsd")
	t.link("bin/sh", "bash-static")
	t.text("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n"+
		"user-defined-in-image:x:1000:1000::/home/user-defined-in-image:/bin/sh\n")
	t.text("etc/group", "root:x:0:\nnogroup:x:65534:\nuser-defined-in-image:x:1000:\n"+
		"group-defined-in-image:x:50000:user-defined-in-image\n")
	t.text("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n")
	return err
}

// fillPause compiles upstream's pause.
func fillPause(ctx context.Context, t *tree, p place, source string) error {
	to := p.built("pause")
	cmd := exec.CommandContext(ctx, "gcc", "-Os", "-Wall", "-static", "-s", "-Wl,--build-id=none", "-DVERSION=v3.10.2", "-o", to, source)
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", cmd, err, said)
	}
	t.copy("pause", 0o755, to)
	return nil
}

// goProgram builds one of the repository's own.
func goProgram(ctx context.Context, t *tree, p place, name, pkg string) error {
	to := p.built(filepath.Base(pkg))
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", to, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", cmd, err, said)
	}
	t.copy(name, 0o755, to)
	return nil
}

// makeImages writes the archive of all images, unless nothing has changed.
func makeImages(ctx context.Context, p place, out io.Writer) error {
	inputs, err := imageInputs(p)
	if err != nil {
		return err
	}
	return cached(p, archive, inputs, func(to string) error {
		fmt.Fprintln(out, "making the images …")
		cmd := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes")
		cmd.Dir = filepath.Join(p.root, suiteModule)
		sources, err := cmd.Output()
		if err != nil {
			return fmt.Errorf("%s: %w", cmd, err)
		}
		return writeImages(recipes(ctx, p, strings.TrimSpace(string(sources))), p.built("images"), to)
	})
}

// imageInputs is a digest of what the images are made from: how the programs
// were built, and the recipes.
func imageInputs(p place) (string, error) {
	paths, err := filepath.Glob(filepath.Join(p.root, "e2e/conformance", "*.go"))
	if err != nil {
		return "", err
	}
	paths = slices.DeleteFunc(paths, func(path string) bool {
		return !slices.Contains([]string{"image.go", "layer.go", "debian.go"}, filepath.Base(path))
	})
	paths = append(paths, filepath.Join(p.root, "e2e/conformance/webserver/main.go"))
	for _, g := range programs {
		paths = append(paths, p.built("."+g.name+".inputs"))
	}
	data, err := contents(paths...)
	return digest(data), err
}

// writeImages writes an OCI layout into a directory and that into an archive.
func writeImages(recipes map[string]func(*tree) error, dir, to string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	index, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	layers := map[string]v1.Layer{}
	for _, i := range images {
		made, err := i.make(recipes, layers)
		if err != nil {
			return fmt.Errorf("make %s: %w", i.names[0], err)
		}
		for _, name := range i.names {
			err := index.AppendImage(made, layout.WithAnnotations(map[string]string{"io.containerd.image.name": name}))
			if err != nil {
				return fmt.Errorf("write %s: %w", name, err)
			}
		}
	}
	t := &tree{}
	if err := t.copyAll(dir); err != nil {
		return err
	}
	if err := t.writeFile(to); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// make puts the image together from layers that were made already, or are now.
func (i image) make(recipes map[string]func(*tree) error, layers map[string]v1.Layer) (v1.Image, error) {
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	made, err := mutate.ConfigFile(base, &v1.ConfigFile{OS: runtime.GOOS, Architecture: runtime.GOARCH})
	for _, name := range i.layers {
		if err != nil {
			return nil, err
		}
		if layers[name] == nil {
			t := &tree{}
			if err := recipes[name](t); err != nil {
				return nil, fmt.Errorf("fill %s: %w", name, err)
			}
			if layers[name], err = t.layer(); err != nil {
				return nil, err
			}
		}
		made, err = mutate.AppendLayers(made, layers[name])
	}
	if err != nil {
		return nil, err
	}
	i.config.Env = []string{search}
	return mutate.Config(made, i.config)
}
