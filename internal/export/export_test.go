package export

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/store"
	"github.com/skiff-sh/skiff/internal/store/bolt"
)

func meta(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: namespace, Name: name, UID: "uid-x", Generation: 3,
		CreationTimestamp: metav1.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)),
		ManagedFields:     []metav1.ManagedFieldsEntry{{Manager: "someone"}},
		Labels:            map[string]string{"app": name},
	}
}

func owned(m metav1.ObjectMeta) metav1.ObjectMeta {
	m.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "Deployment", Name: "web", UID: "y"}}
	return m
}

// stored writes objects to a store and returns its path.
func stored(t *testing.T, objects ...kind.Object) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "store.db")
	e, err := bolt.Open(path, bolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	commit := func(bucket, name string, value []byte) {
		_, err := e.Commit(t.Context(), []store.Op{{Key: store.Key{Bucket: bucket, Name: name}, Value: value}})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, obj := range objects {
		i := slices.IndexFunc(kind.All, func(k *kind.Kind) bool {
			return reflect.TypeOf(k.New()) == reflect.TypeOf(obj)
		})
		value, err := obj.(interface{ Marshal() ([]byte, error) }).Marshal()
		if err != nil {
			t.Fatal(err)
		}
		name := obj.GetName()
		if kind.All[i].Namespaced {
			name = obj.GetNamespace() + "/" + name
		}
		commit(kind.All[i].Bucket(), name, value)
	}
	commit("!clusterips", "10.43.0.1", []byte("kubernetes"))
	commit("widgets.example.org", "default/x", []byte("{}"))
	return path
}

func cluster(t *testing.T) string {
	return stored(t,
		&corev1.Secret{ObjectMeta: meta("default", "password"), Data: map[string][]byte{"p": []byte("geheim")}},
		&corev1.ConfigMap{ObjectMeta: meta("default", "b")},
		&corev1.ConfigMap{ObjectMeta: meta("default", "a"), Data: map[string]string{"n": "9007199254740993"}},
		&corev1.ConfigMap{ObjectMeta: meta("default-2", "a")},
		&corev1.ConfigMap{ObjectMeta: meta("default", "kube-root-ca.crt")},
		&corev1.Namespace{ObjectMeta: meta("", "default"), Spec: corev1.NamespaceSpec{Finalizers: []corev1.FinalizerName{"kubernetes"}}, Status: corev1.NamespaceStatus{Phase: "Active"}},
		&corev1.Node{ObjectMeta: meta("", "box")},
		&corev1.ServiceAccount{ObjectMeta: meta("default", "robot")},
		&appsv1.Deployment{ObjectMeta: meta("default", "web"), Spec: appsv1.DeploymentSpec{Replicas: new(int32(2))}, Status: appsv1.DeploymentStatus{Replicas: 2}},
		&appsv1.ReplicaSet{ObjectMeta: owned(meta("default", "web-1"))},
		&corev1.Event{ObjectMeta: meta("default", "web.1"), Reason: "Started"},
	)
}

func exported(t *testing.T, path string, s Selection) string {
	t.Helper()
	objects, _, err := Read(t.Context(), path, s)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := Write(&out, objects, s.AllFields); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func names(t *testing.T, path string, s Selection) string {
	t.Helper()
	objects, unknown, err := Read(t.Context(), path, s)
	if err != nil || !slices.Equal(unknown, []string{"widgets.example.org"}) {
		t.Fatalf("unknown %v, %v", unknown, err)
	}
	var all []string
	for _, o := range objects {
		all = append(all, o.String())
	}
	return strings.Join(all, " ")
}

func TestOrderAndSelection(t *testing.T) {
	path := cluster(t)
	for name, c := range map[string]struct {
		kinds []string
		s     Selection
		want  string
	}{
		"all": {want: "namespaces/default nodes/box serviceaccounts/default/robot configmaps/default/a configmaps/default/b configmaps/default/kube-root-ca.crt configmaps/default-2/a " +
			"events/default/web.1 secrets/default/password deployments.apps/default/web replicasets.apps/default/web-1"},
		"what people made": {s: Selection{WithoutOwned: true}, want: "namespaces/default serviceaccounts/default/robot configmaps/default/a configmaps/default/b configmaps/default-2/a secrets/default/password deployments.apps/default/web"},
		"namespace":        {s: Selection{Namespace: "default-2"}, want: "configmaps/default-2/a"},
		"kinds":            {kinds: []string{"deploy", "Secret", "nodes"}, want: "nodes/box secrets/default/password deployments.apps/default/web"},
	} {
		t.Run(name, func(t *testing.T) {
			var err error
			if c.s.Kinds, err = Kinds(c.kinds); err != nil {
				t.Fatal(err)
			}
			if got := names(t, path, c.s); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
	if _, err := Kinds([]string{"gizmo"}); err == nil || !strings.Contains(err.Error(), `there is no kind "gizmo": see skiff kubectl api-resources`) {
		t.Errorf("got %v", err)
	}
}

func TestDocuments(t *testing.T) {
	path := cluster(t)
	got := exported(t, path, Selection{Kinds: []*kind.Kind{kind.Deployment, kind.Namespace, kind.Secret}})
	want := `apiVersion: v1
kind: Namespace
metadata:
  labels:
    app: default
  name: default
---
apiVersion: v1
data:
  p: Z2VoZWlt
kind: Secret
metadata:
  labels:
    app: password
  name: password
  namespace: default
---
apiVersion: apps/v1
kind: Deployment
metadata:
  labels:
    app: web
  name: web
  namespace: default
spec:
  replicas: 2
  selector: null
  strategy: {}
  template:
    metadata: {}
    spec:
      containers: null
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if again := exported(t, path, Selection{Kinds: []*kind.Kind{kind.Deployment, kind.Namespace, kind.Secret}}); again != got {
		t.Error("twice is not the same")
	}
	all := exported(t, path, Selection{Kinds: []*kind.Kind{kind.Deployment}, AllFields: true})
	for _, field := range []string{"managedFields:", "uid: uid-x", "status:", "creationTimestamp: \"2026-01-02T03:04:05Z\"", "generation: 3"} {
		if !strings.Contains(all, field) {
			t.Errorf("--all-fields has no %s:\n%s", field, all)
		}
	}
}

// files returns what is below a directory.
func files(t *testing.T, dir string) string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			all = append(all, strings.TrimPrefix(path, dir+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(all, " ")
}

func TestDirectory(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, ".git"), 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(path string, s Selection) {
		t.Helper()
		objects, _, err := Read(t.Context(), path, s)
		if err == nil {
			err = Directory(dir, objects, s)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	write(cluster(t), Selection{WithoutOwned: true})
	want := ".skiff-export configmaps/default/a.yaml configmaps/default/b.yaml configmaps/default-2/a.yaml deployments.apps/default/web.yaml " +
		"namespaces/default.yaml secrets/default/password.yaml serviceaccounts/default/robot.yaml"
	if got := files(t, dir); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	// People's own files stay, and so does what the selection does not reach.
	notes := filepath.Join(dir, "configmaps", "notes.txt")
	if err := os.WriteFile(notes, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	fewer := stored(t, &corev1.ConfigMap{ObjectMeta: meta("default", "b")})
	write(fewer, Selection{Kinds: []*kind.Kind{kind.ConfigMap}, Namespace: "default"})
	want = ".skiff-export configmaps/default/b.yaml configmaps/default-2/a.yaml configmaps/notes.txt deployments.apps/default/web.yaml " +
		"namespaces/default.yaml secrets/default/password.yaml serviceaccounts/default/robot.yaml"
	if got := files(t, dir); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	info, err := os.Stat(filepath.Join(dir, "secrets/default/password.yaml"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("a Secret's file has mode %v, %v", info.Mode(), err)
	}
}

func TestDirectoryOfOthersIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "precious.yaml"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err := Directory(dir, nil, Selection{})
	if err == nil || !strings.Contains(err.Error(), "has other files, such as precious.yaml: name an empty directory") {
		t.Errorf("got %v", err)
	}
}
