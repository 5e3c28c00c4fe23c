package api

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	eventsv1 "k8s.io/api/events/v1"
	nodev1 "k8s.io/api/node/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	restclient "k8s.io/client-go/rest"

	"github.com/skiff-sh/skiff/internal/kind"
)

var podTemplate = corev1.PodTemplateSpec{
	ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "a"}},
	Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}},
}

// samples are one object of each served resource.
var samples = map[schema.GroupVersionResource]runtime.Object{
	kind.ConfigMap.Resource:      &corev1.ConfigMap{Data: map[string]string{"k": "v"}},
	kind.Secret.Resource:         &corev1.Secret{StringData: map[string]string{"k": "v"}},
	kind.Namespace.Resource:      &corev1.Namespace{},
	kind.Node.Resource:           &corev1.Node{},
	kind.ServiceAccount.Resource: &corev1.ServiceAccount{},
	kind.Pod.Resource:            &corev1.Pod{Spec: podTemplate.Spec},
	kind.Service.Resource:        &corev1.Service{Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}},
	kind.Endpoints.Resource:      &corev1.Endpoints{},
	kind.EndpointSlice.Resource:  &discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv4},
	kind.Lease.Resource:          &coordinationv1.Lease{},
	kind.PriorityClass.Resource:  &schedulingv1.PriorityClass{Value: 7},
	kind.RuntimeClass.Resource:   &nodev1.RuntimeClass{Handler: "runc"},
	kind.Deployment.Resource: &appsv1.Deployment{Spec: appsv1.DeploymentSpec{
		Selector: &metav1.LabelSelector{MatchLabels: podTemplate.Labels}, Template: podTemplate,
	}},
	kind.ReplicaSet.Resource: &appsv1.ReplicaSet{Spec: appsv1.ReplicaSetSpec{
		Selector: &metav1.LabelSelector{MatchLabels: podTemplate.Labels}, Template: podTemplate,
	}},
	kind.CertificateSigningRequest.Resource: userRequest("sample", time.Hour),
	kind.Event.Resource: &corev1.Event{
		InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: "p"}, Reason: "R", Type: "Normal",
	},
	eventsv1.SchemeGroupVersion.WithResource("events"): &eventsv1.Event{
		EventTime: metav1.NowMicro(), ReportingController: "c", ReportingInstance: "i", Action: "A", Reason: "R", Type: "Normal",
		Regarding: corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: "p"},
	},
}

// Every kind goes through its whole life with the dynamic client.
func TestEveryKindLives(t *testing.T) {
	p := start(t, nil)
	client := must(dynamic.NewForConfig(p.admin()))(t)
	for _, k := range kind.All {
		resources := []schema.GroupVersionResource{k.Resource}
		for _, f := range k.Faces {
			resources = append(resources, f.Resource)
		}
		for _, gvr := range resources {
			t.Run(gvr.GroupResource().String(), func(t *testing.T) {
				sample := samples[gvr]
				if sample == nil {
					t.Fatalf("no sample of %s: add one", gvr)
				}
				content := must(runtime.DefaultUnstructuredConverter.ToUnstructured(sample))(t)
				obj := &unstructured.Unstructured{Object: content}
				obj.SetGroupVersionKind(gvr.GroupVersion().WithKind(k.Kind))
				obj.SetName("live-" + strings.ToLower(k.Kind))
				life(t, client.Resource(gvr), k.Namespaced, obj)
			})
		}
	}
}

func life(t *testing.T, resource dynamic.NamespaceableResourceInterface, namespaced bool, obj *unstructured.Unstructured) {
	t.Helper()
	ctx := t.Context()
	var in dynamic.ResourceInterface = resource
	if namespaced {
		in = resource.Namespace("default")
		obj.SetNamespace("default")
	}
	dry := must(in.Create(ctx, obj, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}))(t)
	if dry.GetUID() == "" {
		t.Error("dry-run create gave no complete object")
	}
	if _, err := in.Get(ctx, obj.GetName(), metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Fatalf("after a dry run: %v", err)
	}
	created := must(in.Create(ctx, obj, metav1.CreateOptions{}))(t)
	if created.GetKind() != obj.GetKind() || created.GetAPIVersion() != obj.GetAPIVersion() || created.GetResourceVersion() == "" {
		t.Errorf("created as %s %s at %q", created.GetAPIVersion(), created.GetKind(), created.GetResourceVersion())
	}
	if _, err := in.Create(ctx, obj, metav1.CreateOptions{}); !apierrors.IsAlreadyExists(err) {
		t.Errorf("second create: %v", err)
	}
	created.SetLabels(map[string]string{"x": "1"})
	updated := must(in.Update(ctx, created, metav1.UpdateOptions{}))(t)
	created.SetLabels(map[string]string{"x": "2"})
	if _, err := in.Update(ctx, created, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
		t.Errorf("update of an old version: %v", err)
	}
	for i, patchType := range []types.PatchType{types.MergePatchType, types.StrategicMergePatchType} {
		patched := must(in.Patch(ctx, obj.GetName(), patchType, []byte(`{"metadata":{"labels":{"y":"`+string(rune('0'+i))+`"}}}`), metav1.PatchOptions{}))(t)
		if patched.GetLabels()["y"] != string(rune('0'+i)) || patched.GetLabels()["x"] != "1" {
			t.Errorf("%s: labels %v", patchType, patched.GetLabels())
		}
		updated = patched
	}
	patched := must(in.Patch(ctx, obj.GetName(), types.JSONPatchType, []byte(`[{"op":"remove","path":"/metadata/labels/y"}]`), metav1.PatchOptions{}))(t)
	if _, there := patched.GetLabels()["y"]; there || patched.GetResourceVersion() == updated.GetResourceVersion() {
		t.Errorf("JSON patch left labels %v at %s", patched.GetLabels(), patched.GetResourceVersion())
	}
	list := must(in.List(ctx, metav1.ListOptions{LabelSelector: "x=1"}))(t)
	if len(list.Items) != 1 || list.Items[0].GetName() != obj.GetName() || list.Items[0].GetKind() != obj.GetKind() {
		t.Errorf("list by label: %d items", len(list.Items))
	}
	list = must(resource.List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + obj.GetName()}))(t)
	if len(list.Items) != 1 {
		t.Errorf("list by name: %d items", len(list.Items))
	}
	zero := int64(0)
	if err := in.Delete(ctx, obj.GetName(), metav1.DeleteOptions{GracePeriodSeconds: &zero}); err != nil {
		t.Fatal(err)
	}
	got, err := in.Get(ctx, obj.GetName(), metav1.GetOptions{})
	if obj.GetKind() == "Namespace" {
		// Its controller, which does not run here, takes it away.
		if err != nil || got.GetDeletionTimestamp() == nil {
			t.Errorf("deleted namespace: %v, deletion timestamp %v", err, got.GetDeletionTimestamp())
		}
		return
	}
	if !apierrors.IsNotFound(err) {
		t.Errorf("after deletion: %v", err)
	}
}

// call makes a raw request and returns status code, body and headers.
func call(t *testing.T, c *restclient.Config, method, path, body string, header map[string]string) (int, string, map[string][]string) {
	t.Helper()
	client := must(restclient.HTTPClientFor(c))(t)
	request := must(newRequest(t, method, c.Host+path, body))(t)
	for k, v := range header {
		request.Header.Set(k, v)
	}
	answer := must(client.Do(request))(t)
	defer func() { _ = answer.Body.Close() }()
	var text strings.Builder
	must(copyAll(&text, answer.Body))(t)
	return answer.StatusCode, text.String(), answer.Header
}

func decodeStatus(t *testing.T, body string) metav1.Status {
	t.Helper()
	var s metav1.Status
	if err := json.Unmarshal([]byte(body), &s); err != nil {
		t.Fatalf("%v in %q", err, body)
	}
	return s
}
