package static

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/skiff-sh/skiff/internal/kind"
)

// Annotations of static Pods, as other tools expect them.
const (
	hashAnnotation   = "kubernetes.io/config.hash"
	sourceAnnotation = "kubernetes.io/config.source"
)

// Is says whether a Pod came from a file.
func Is(pod *corev1.Pod) bool { return pod.Annotations[sourceAnnotation] == "file" }

// MirrorOf says which static Pod an object of the API stands for, by its UID; ok is
// false if it stands for none.
func MirrorOf(pod *corev1.Pod) (uid types.UID, ok bool) {
	hash, ok := pod.Annotations[corev1.MirrorPodAnnotationKey]
	return types.UID(hash), ok
}

// Mirror is the object that stands for a static Pod in the API.
func Mirror(pod *corev1.Pod, nodeUID types.UID) *corev1.Pod {
	m := pod.DeepCopy()
	yes := true
	m.Annotations[corev1.MirrorPodAnnotationKey] = pod.Annotations[hashAnnotation]
	m.UID, m.Status = "", corev1.PodStatus{}
	m.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: pod.Spec.NodeName, UID: nodeUID, Controller: &yes}}
	return m
}

// Read makes the Pods that a file describes: a Pod or a PodList, as YAML or JSON. Each
// is complete, valid and bound to the node.
func Read(path string, data []byte, node string) ([]*corev1.Pod, error) {
	text, err := yaml.ToJSON(data)
	if err != nil {
		return nil, err
	}
	obj, _, err := scheme.Codecs.UniversalDeserializer().Decode(text, nil, nil)
	if err != nil {
		return nil, err
	}
	var pods []*corev1.Pod
	switch o := obj.(type) {
	case *corev1.Pod:
		pods = []*corev1.Pod{o}
	case *corev1.PodList:
		for i := range o.Items {
			pods = append(pods, &o.Items[i])
		}
	default:
		return nil, fmt.Errorf("expected a Pod, found %s", obj.GetObjectKind().GroupVersionKind().Kind)
	}
	for _, pod := range pods {
		if err := complete(pod, path, node); err != nil {
			return nil, err
		}
	}
	return pods, nil
}

// complete gives a Pod the names and defaults that the API server gives others.
func complete(pod *corev1.Pod, path, node string) error {
	if pod.Name == "" {
		return errors.New("invalid pod: name is needed for the pod")
	}
	if pod.UID == "" {
		text, err := json.Marshal(pod)
		if err != nil {
			return err
		}
		digest := fnv.New128a()
		fmt.Fprintf(digest, "%s host:%s file:%s", text, node, path)
		pod.UID = types.UID(hex.EncodeToString(digest.Sum(nil)))
	}
	pod.Name += "-" + strings.ToLower(node)
	if pod.Namespace == "" {
		pod.Namespace = metav1.NamespaceDefault
	}
	pod.Spec.NodeName = node
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	pod.Annotations[hashAnnotation], pod.Annotations[sourceAnnotation] = string(pod.UID), "file"
	tolerate(pod)
	pod.Status = corev1.PodStatus{Phase: corev1.PodPending}
	kind.Pod.Default(pod)
	if errs := kind.Pod.Validate(pod); len(errs) > 0 {
		return fmt.Errorf("invalid pod: %v", errs)
	}
	if what := refersTo(&pod.Spec); what != "" {
		return fmt.Errorf("static pods may not reference %s", what)
	}
	return nil
}

// tolerate keeps a Pod on its node whatever is wrong with that.
func tolerate(pod *corev1.Pod) {
	all := corev1.Toleration{Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute}
	for _, t := range pod.Spec.Tolerations {
		if t.MatchToleration(&all) {
			return
		}
	}
	pod.Spec.Tolerations = append(pod.Spec.Tolerations, all)
}

// refersTo names objects of the API that the Pod needs, which it may not: there may be
// no server.
func refersTo(s *corev1.PodSpec) string {
	switch {
	case s.ServiceAccountName != "":
		return "serviceaccounts"
	case len(s.ImagePullSecrets) > 0:
		return "secrets"
	case len(s.ResourceClaims) > 0:
		return "resourceclaims"
	}
	for _, list := range [][]corev1.Container{s.InitContainers, s.Containers} {
		for i := range list {
			if what := environment(&list[i]); what != "" {
				return what
			}
		}
	}
	for i := range s.Volumes {
		if what := volume(&s.Volumes[i]); what != "" {
			return what
		}
	}
	return ""
}

func environment(c *corev1.Container) string {
	for _, from := range c.EnvFrom {
		switch {
		case from.ConfigMapRef != nil:
			return "configmaps"
		case from.SecretRef != nil:
			return "secrets"
		}
	}
	for _, e := range c.Env {
		switch {
		case e.ValueFrom == nil:
		case e.ValueFrom.ConfigMapKeyRef != nil:
			return "configmaps"
		case e.ValueFrom.SecretKeyRef != nil:
			return "secrets"
		}
	}
	return ""
}

func volume(v *corev1.Volume) string {
	switch {
	case v.ConfigMap != nil:
		return "configmaps (via configmap volumes)"
	case v.Secret != nil:
		return "secrets (via secret volumes)"
	case v.CSI != nil:
		return "csidrivers (via CSI volumes)"
	case v.PersistentVolumeClaim != nil:
		return "persistentvolumeclaims"
	case v.Ephemeral != nil:
		return "persistentvolumeclaims (via ephemeral volumes)"
	case v.Projected == nil:
		return ""
	}
	for _, s := range v.Projected.Sources {
		switch {
		case s.ConfigMap != nil:
			return "configmaps (via projected volumes)"
		case s.Secret != nil:
			return "secrets (via projected volumes)"
		case s.ServiceAccountToken != nil:
			return "serviceaccounts (via projected volumes)"
		case s.ClusterTrustBundle != nil:
			return "clustertrustbundles"
		case s.PodCertificate != nil:
			return "podcertificates"
		}
	}
	return ""
}
