package api

import (
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	appsac "k8s.io/client-go/applyconfigurations/apps/v1"
	coreac "k8s.io/client-go/applyconfigurations/core/v1"
	metaac "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"

	"github.com/skiff-sh/skiff/internal/kind"
)

// deployment makes the sample Deployment.
func deployment(t *testing.T, client kubernetes.Interface) *appsv1.Deployment {
	t.Helper()
	d := samples[kind.Deployment.Resource].(*appsv1.Deployment).DeepCopy()
	d.Name = "d"
	return must(client.AppsV1().Deployments("default").Create(t.Context(), d, metav1.CreateOptions{}))(t)
}

// The typed client does in each encoding what it does in the other.
func TestTypedClientInEachEncoding(t *testing.T) {
	for _, contentType := range []string{"application/json", "application/vnd.kubernetes.protobuf"} {
		t.Run(contentType, func(t *testing.T) {
			p := start(t, nil)
			config := p.admin()
			config.ContentType, config.AcceptContentTypes = contentType, contentType
			client := must(kubernetes.NewForConfig(config))(t)
			deployments := client.AppsV1().Deployments("default")
			made := deployment(t, client)
			if *made.Spec.Replicas != 1 || made.Generation != 1 || made.Spec.Strategy.RollingUpdate.MaxSurge.String() != "25%" {
				t.Errorf("defaults: %+v", made.Spec)
			}
			scaled := must(deployments.UpdateScale(t.Context(), "d", &autoscalingv1.Scale{
				ObjectMeta: metav1.ObjectMeta{Name: "d", Namespace: "default"}, Spec: autoscalingv1.ScaleSpec{Replicas: 4}}, metav1.UpdateOptions{}))(t)
			if scaled.Spec.Replicas != 4 || scaled.Status.Selector != "app=a" {
				t.Errorf("scale: %+v", scaled)
			}
			got := must(deployments.Get(t.Context(), "d", metav1.GetOptions{}))(t)
			if *got.Spec.Replicas != 4 || got.Generation != 2 {
				t.Errorf("after scaling: %d at generation %d", *got.Spec.Replicas, got.Generation)
			}
			got.Status.Replicas, got.Spec.Paused = 3, true
			got = must(deployments.UpdateStatus(t.Context(), got, metav1.UpdateOptions{}))(t)
			if got.Status.Replicas != 3 || got.Spec.Paused || got.Generation != 2 {
				t.Errorf("a status update: %+v %+v", got.Status, got.Spec)
			}
			if err := deployments.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
				t.Fatal(err)
			}
			if list := must(deployments.List(t.Context(), metav1.ListOptions{}))(t); len(list.Items) != 0 {
				t.Errorf("%d are left", len(list.Items))
			}
			_, err := deployments.Get(t.Context(), "d", metav1.GetOptions{})
			if !apierrors.IsNotFound(err) || err.Error() != `deployments.apps "d" not found` {
				t.Errorf("what is gone: %v", err)
			}
		})
	}
}

func TestScaleIsPatched(t *testing.T) {
	p := start(t, nil)
	client := p.client()
	deployment(t, client)
	must(client.AppsV1().Deployments("default").Patch(t.Context(), "d", types.MergePatchType, []byte(`{"spec":{"replicas":7}}`), metav1.PatchOptions{}, "scale"))(t)
	if got := must(client.AppsV1().Deployments("default").GetScale(t.Context(), "d", metav1.GetOptions{}))(t); got.Spec.Replicas != 7 {
		t.Errorf("scale: %+v", got.Spec)
	}
}

// The metadata client sees every kind without knowing it.
func TestMetadataClient(t *testing.T) {
	p := start(t, nil)
	deployment(t, p.client())
	client := must(metadata.NewForConfig(p.admin()))(t).Resource(kind.Deployment.Resource).Namespace("default")
	got := must(client.Get(t.Context(), "d", metav1.GetOptions{}))(t)
	list := must(client.List(t.Context(), metav1.ListOptions{}))(t)
	if got.Name != "d" || len(list.Items) != 1 || list.Items[0].UID != got.UID || list.ResourceVersion == "" {
		t.Errorf("%+v, %+v", got, list)
	}
	w := must(client.Watch(t.Context(), metav1.ListOptions{ResourceVersion: list.ResourceVersion}))(t)
	defer w.Stop()
	must(client.Patch(t.Context(), "d", types.MergePatchType, []byte(`{"metadata":{"labels":{"x":"y"}}}`), metav1.PatchOptions{}))(t)
	if event := next(t, w, false); event.Object.(*metav1.PartialObjectMetadata).Labels["x"] != "y" {
		t.Errorf("event: %+v", event)
	}
}

// Server-side apply creates, changes what its manager owns, and names who
// stands in the way.
func TestApply(t *testing.T) {
	p := start(t, nil)
	deployments := p.client().AppsV1().Deployments("default")
	want := func(replicas int32) *appsac.DeploymentApplyConfiguration {
		labels := map[string]string{"app": "a"}
		return appsac.Deployment("d", "default").WithSpec(appsac.DeploymentSpec().WithReplicas(replicas).
			WithSelector(metaac.LabelSelector().WithMatchLabels(labels)).
			WithTemplate(coreac.PodTemplateSpec().WithLabels(labels).
				WithSpec(coreac.PodSpec().WithContainers(coreac.Container().WithName("c").WithImage("i")))))
	}
	made := must(deployments.Apply(t.Context(), want(2), metav1.ApplyOptions{FieldManager: "one"}))(t)
	if *made.Spec.Replicas != 2 || len(made.ManagedFields) != 1 || made.ManagedFields[0].Manager != "one" {
		t.Errorf("made: %+v", made.ObjectMeta)
	}
	_, err := deployments.Apply(t.Context(), want(3), metav1.ApplyOptions{FieldManager: "two"})
	if !apierrors.IsConflict(err) {
		t.Errorf("another manager's change: %v", err)
	}
	taken := must(deployments.Apply(t.Context(), want(3), metav1.ApplyOptions{FieldManager: "two", Force: true}))(t)
	if *taken.Spec.Replicas != 3 {
		t.Errorf("forced: %d", *taken.Spec.Replicas)
	}
}

// Binding and eviction answer as upstream does.
func TestBindAndEvict(t *testing.T) {
	p := start(t, nil)
	runningPod(t, p, "c")
	bind(t, p)
	pods := p.client().CoreV1().Pods("default")
	if pod := must(pods.Get(t.Context(), "p", metav1.GetOptions{}))(t); pod.Spec.NodeName != "n" {
		t.Errorf("bound to %q", pod.Spec.NodeName)
	}
	err := pods.Bind(t.Context(), &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Target: corev1.ObjectReference{Kind: "Node", Name: "m"}}, metav1.CreateOptions{})
	if !apierrors.IsConflict(err) {
		t.Errorf("bound twice: %v", err)
	}
	if err := pods.EvictV1(t.Context(), &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: "p"}}); err != nil {
		t.Fatal(err)
	}
	if pod := must(pods.Get(t.Context(), "p", metav1.GetOptions{}))(t); pod.DeletionTimestamp == nil {
		t.Error("the evicted Pod is to stay")
	}
}
