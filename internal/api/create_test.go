package api_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/kind"
)

func TestCreateFillsMetadata(t *testing.T) {
	c := newCluster(t)
	cm := configMap("a")
	cm.UID, cm.SelfLink = "chosen", "/x"
	now := metav1.Now()
	cm.DeletionTimestamp = &now
	out := c.create(kind.ConfigMap, cm)
	if out.GetUID() == "" || out.GetUID() == "chosen" {
		t.Errorf("uid %q was not given by the server", out.GetUID())
	}
	if age := time.Since(out.GetCreationTimestamp().Time); age < 0 || age > time.Minute || out.GetCreationTimestamp().Nanosecond() != 0 {
		t.Errorf("creationTimestamp %v", out.GetCreationTimestamp())
	}
	if out.GetDeletionTimestamp() != nil || out.GetSelfLink() != "" || out.GetResourceVersion() == "" {
		t.Errorf("metadata %+v", out)
	}
}

func TestCreateRefuses(t *testing.T) {
	c := newCluster(t)
	c.create(kind.ConfigMap, configMap("taken"))
	terminating := c.create(kind.Namespace, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ending"}})
	if _, _, err := c.Delete(context.Background(), at(kind.Namespace, terminating), metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		obj       *corev1.ConfigMap
		namespace string
		reason    metav1.StatusReason
		text      string
	}{
		"taken name": {configMap("taken"), "default", metav1.StatusReasonAlreadyExists, `configmaps "taken" already exists`},
		"no name":    {configMap(""), "default", metav1.StatusReasonInvalid, `ConfigMap "" is invalid: metadata.name: Required value: name or generateName is required`},
		"bad name":   {configMap("A_b"), "default", metav1.StatusReasonInvalid, `metadata.name: Invalid value: "A_b"`},
		"revision set": {
			func() *corev1.ConfigMap { cm := configMap("r"); cm.ResourceVersion = "7"; return cm }(),
			"default", "", "resourceVersion should not be set on objects to be created",
		},
		"other namespace": {configMap("n"), "kube-system", metav1.StatusReasonBadRequest, "the namespace of the provided object does not match the namespace sent on the request"},
		"missing namespace": {
			func() *corev1.ConfigMap { cm := configMap("m"); cm.Namespace = ""; return cm }(),
			"nowhere", metav1.StatusReasonNotFound, `namespaces "nowhere" not found`,
		},
		"ending namespace": {
			func() *corev1.ConfigMap { cm := configMap("e"); cm.Namespace = ""; return cm }(),
			"ending", metav1.StatusReasonForbidden, `configmaps "e" is forbidden: unable to create new content in namespace ending because it is being terminated`,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := c.Create(context.Background(), to(kind.ConfigMap, test.namespace, test.obj.Name), test.obj)
			status := wantStatus(t, err, test.reason, test.text)
			if name == "ending namespace" && !apierrors.HasStatusCause(status, corev1.NamespaceTerminatingCause) {
				t.Errorf("causes %v lack NamespaceTerminating", status.ErrStatus.Details.Causes)
			}
		})
	}
}

func TestCreateTakesRevisionZeroAndSingleOwners(t *testing.T) {
	c := newCluster(t)
	cm := configMap("a")
	cm.ResourceVersion = "0"
	owner := metav1.OwnerReference{APIVersion: "v1", Kind: "Pod", Name: "p", UID: "u"}
	cm.OwnerReferences = []metav1.OwnerReference{owner, owner, {APIVersion: "v1", Kind: "Pod", Name: "q", UID: "v"}}
	req := at(kind.ConfigMap, cm)
	var warnings []string
	req.Warn = func(text string) { warnings = append(warnings, text) }
	out, err := c.Create(context.Background(), req, cm)
	if err != nil || len(out.GetOwnerReferences()) != 2 {
		t.Fatalf("owners %v, %v", out, err)
	}
	if len(warnings) != 1 || !strings.Contains(warnings[0], "duplicate UID(s) observed: u") {
		t.Errorf("warnings %q", warnings)
	}
}

func TestCreateGeneratesNames(t *testing.T) {
	c := newCluster(t)
	seen := map[string]bool{}
	for range 50 {
		cm := configMap("")
		cm.GenerateName = strings.Repeat("a", 70)
		out, err := c.Create(context.Background(), to(kind.ConfigMap, "default", ""), cm)
		if err != nil {
			t.Fatal(err)
		}
		if name := out.GetName(); len(name) != 63 || !strings.HasPrefix(name, strings.Repeat("a", 58)) || seen[name] {
			t.Fatalf("generated %q", name)
		}
		seen[out.GetName()] = true
	}
	ns, err := c.Create(context.Background(), to(kind.Namespace, "", ""), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "team-"}})
	if err != nil {
		t.Fatal(err)
	}
	if ns.GetLabels()[corev1.LabelMetadataName] != ns.GetName() {
		t.Errorf("namespace %s has labels %v", ns.GetName(), ns.GetLabels())
	}
}

func TestCreateDryRun(t *testing.T) {
	c := newCluster(t)
	req := to(kind.ConfigMap, "default", "dry")
	req.DryRun = true
	before := c.state.Revision()
	out, err := c.Create(context.Background(), req, configMap("dry"))
	if err != nil || out.GetUID() == "" {
		t.Fatalf("dry run: %v %v", out, err)
	}
	if c.state.Revision() != before {
		t.Error("a dry run was committed")
	}
	c.isGone(kind.ConfigMap, "default", "dry")
	c.create(kind.ConfigMap, configMap("dry"))
	_, err = c.Create(context.Background(), req, configMap("dry"))
	wantStatus(t, err, metav1.StatusReasonAlreadyExists, `configmaps "dry" already exists`)
}

// A namespace's end and a creation in it: whatever the order, nothing is
// created in one that is being deleted.
func TestCreateNeverEntersAnEndingNamespace(t *testing.T) {
	c := newCluster(t)
	for range 20 {
		ns, err := c.Create(context.Background(), to(kind.Namespace, "", ""), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "race-"}})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for {
					cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "x-"}}
					if _, err := c.Create(context.Background(), to(kind.ConfigMap, ns.GetName(), ""), cm); err != nil {
						if !apierrors.IsForbidden(err) {
							t.Error(err)
						}
						return
					}
				}
			})
		}
		ended, _, err := c.Delete(context.Background(), at(kind.Namespace, ns), metav1.DeleteOptions{})
		if err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		list, err := c.List(context.Background(), to(kind.ConfigMap, ns.GetName(), ""), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, obj := range list.Items {
			if revision(t, obj) > revision(t, ended) {
				t.Fatalf("%s was created at %s, after its namespace's end at %s", obj.GetName(), obj.GetResourceVersion(), ended.GetResourceVersion())
			}
		}
	}
}

// A dry run says what would be stored, but for the revision, which it leaves as it
// came; a name that is about to become free is taken still.
func TestCreateToTheLetter(t *testing.T) {
	c := newCluster(t)
	cm := configMap("a")
	cm.ResourceVersion, cm.DeletionTimestamp, cm.UID, cm.Finalizers = "12", &metav1.Time{}, "mine", []string{"x.y/z"}
	req := at(kind.ConfigMap, cm)
	req.DryRun = true
	out, err := c.Create(context.Background(), req, cm)
	if err != nil || out.GetResourceVersion() != "12" || out.GetUID() == "mine" || out.GetDeletionTimestamp() != nil {
		t.Fatalf("dry run: %+v, %v", out, err)
	}
	kept := configMap("a")
	kept.Finalizers = []string{"x.y/z"}
	c.create(kind.ConfigMap, kept)
	c.delete(kind.ConfigMap, "default", "a", metav1.DeleteOptions{})
	_, err = c.Create(context.Background(), at(kind.ConfigMap, cm), configMap("a"))
	wantStatus(t, err, metav1.StatusReasonAlreadyExists, `object is being deleted: configmaps "a" already exists`)
	another := configMap("a")
	another.UID = "another"
	_, _, err = c.Put(context.Background(), at(kind.ConfigMap, another), another)
	wantStatus(t, err, metav1.StatusReasonConflict, "Key: /registry/configmaps/default/a, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: another")
}
