package main

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// born is when every Pod was made: figures should not depend on the day.
var born = metav1.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))

// newPod returns a running Pod as a Deployment's are: two containers, probes,
// resources, status, and who manages which field, about 2.9 KB as protobuf.
func newPod(i int) *corev1.Pod {
	hash := fmt.Sprintf("%08x", i*2654435761%(1<<32))
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: fmt.Sprintf("namespace-%02d", i%50), Name: fmt.Sprintf("web-%s-%06d", hash, i),
			GenerateName: "web-" + hash + "-", UID: podUID(i), Generation: 1, CreationTimestamp: born,
			Labels:      map[string]string{"app.kubernetes.io/name": "web", "app.kubernetes.io/part-of": "shop", "pod-template-hash": hash},
			Annotations: map[string]string{"kubectl.kubernetes.io/restartedAt": "2026-01-02T03:04:05Z"},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web-" + hash,
				UID: podUID(i + 1), Controller: new(true), BlockOwnerDeletion: new(true)}},
			ManagedFields: []metav1.ManagedFieldsEntry{managed("kube-controller-manager", ""), managed("kubelet", "status")},
		},
		Spec: corev1.PodSpec{
			NodeName: fmt.Sprintf("node-%03d", i%100), ServiceAccountName: "default", RestartPolicy: corev1.RestartPolicyAlways,
			DNSPolicy: corev1.DNSClusterFirst, SchedulerName: corev1.DefaultSchedulerName, EnableServiceLinks: new(true),
			TerminationGracePeriodSeconds: new(int64(30)), Priority: new(int32(0)), SecurityContext: &corev1.PodSecurityContext{},
			Volumes: []corev1.Volume{{Name: "settings", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
				LocalObjectReference: corev1.LocalObjectReference{Name: "web"}, DefaultMode: new(int32(0o644))}}}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, QOSClass: corev1.PodQOSBurstable, StartTime: &born,
			HostIP: "192.0.2.10", PodIP: fmt.Sprintf("10.42.%d.%d", i>>8&255, i&255), ObservedGeneration: 1},
	}
	for _, name := range []string{"web", "proxy"} {
		p.Spec.Containers = append(p.Spec.Containers, container(name))
		p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, corev1.ContainerStatus{
			Name: name, Ready: true, Started: new(true), Image: "registry.example/shop/" + name + ":v1.2.3",
			ImageID:     "registry.example/shop/" + name + "@sha256:" + strings.Repeat(hash, 8),
			ContainerID: "containerd://" + strings.Repeat(hash, 8),
			State:       corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: born}},
		})
	}
	for _, c := range []corev1.PodConditionType{corev1.PodReadyToStartContainers, corev1.PodInitialized, corev1.PodReady, corev1.ContainersReady, corev1.PodScheduled} {
		p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: c, Status: corev1.ConditionTrue, LastTransitionTime: born, ObservedGeneration: 1})
	}
	return p
}

func podUID(i int) types.UID { return types.UID(fmt.Sprintf("3f2b8c1e-0000-4000-8000-%012x", i)) }

func container(name string) corev1.Container {
	return corev1.Container{
		Name: name, Image: "registry.example/shop/" + name + ":v1.2.3", ImagePullPolicy: corev1.PullIfNotPresent,
		Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080, Protocol: corev1.ProtocolTCP}},
		Env: []corev1.EnvVar{{Name: "LOG_LEVEL", Value: "info"}, {Name: "POD_IP",
			ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "status.podIP"}}}},
		Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("64Mi")}},
		VolumeMounts: []corev1.VolumeMount{{Name: "settings", MountPath: "/etc/" + name, ReadOnly: true}},
		ReadinessProbe: &corev1.Probe{TimeoutSeconds: 1, PeriodSeconds: 10, SuccessThreshold: 1, FailureThreshold: 3,
			ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromString("http"), Scheme: corev1.URISchemeHTTP}}},
		TerminationMessagePath: corev1.TerminationMessagePathDefault, TerminationMessagePolicy: corev1.TerminationMessageReadFile,
	}
}

// managed has some of the fields that server-side apply would note.
func managed(manager, subresource string) metav1.ManagedFieldsEntry {
	fields := `{"f:metadata":{"f:annotations":{".":{},"f:kubectl.kubernetes.io/restartedAt":{}},"f:labels":{".":{},` +
		`"f:app.kubernetes.io/name":{},"f:app.kubernetes.io/part-of":{},"f:pod-template-hash":{}}},"f:spec":{"f:containers":{` +
		`"k:{\"name\":\"proxy\"}":{".":{},"f:image":{},"f:name":{},"f:resources":{"f:requests":{}}},` +
		`"k:{\"name\":\"web\"}":{".":{},"f:env":{},"f:image":{},"f:name":{},"f:ports":{},"f:resources":{"f:requests":{}}}},` +
		`"f:restartPolicy":{},"f:volumes":{".":{},"k:{\"name\":\"settings\"}":{".":{},"f:configMap":{},"f:name":{}}}}}`
	return metav1.ManagedFieldsEntry{Manager: manager, Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: "v1",
		Time: &born, FieldsType: "FieldsV1", FieldsV1: &metav1.FieldsV1{Raw: []byte(fields)}, Subresource: subresource}
}
