package auth

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/skiff-sh/skiff/internal/state"
)

// cluster has a Pod on n1 that refers to objects in every way there is, one on
// n2, and one on neither.
func cluster(t *testing.T) *state.State {
	named := func(name string) corev1.LocalObjectReference { return corev1.LocalObjectReference{Name: name} }
	mine := pod("mine", "n1", func(s *corev1.PodSpec) {
		s.ImagePullSecrets = []corev1.LocalObjectReference{named("pull")}
		s.InitContainers = []corev1.Container{{EnvFrom: []corev1.EnvFromSource{
			{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: named("env-from")}},
			{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: named("env-from")}},
		}}}
		s.Containers = []corev1.Container{{Env: []corev1.EnvVar{
			{ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: named("env")}}},
			{ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: named("env")}}},
		}}}
		s.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Env: []corev1.EnvVar{
			{ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: named("debug")}}},
		}}}}
		s.Volumes = []corev1.Volume{
			{VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "volume"}}},
			{VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: named("volume")}}},
			{VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
				{Secret: &corev1.SecretProjection{LocalObjectReference: named("projected")}},
				{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: named("projected")}},
			}}}},
			{VolumeSource: corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{NodePublishSecretRef: &corev1.LocalObjectReference{Name: "csi"}}}},
		}
	})
	theirs := pod("theirs", "n2", func(s *corev1.PodSpec) {
		s.ServiceAccountName = "other"
		s.ImagePullSecrets = []corev1.LocalObjectReference{named("theirs")}
	})
	free := pod("free", "", func(s *corev1.PodSpec) { s.ServiceAccountName = "other" })
	mirror := pod("mirror", "n1", func(s *corev1.PodSpec) {
		s.ImagePullSecrets = []corev1.LocalObjectReference{named("mirrored")}
		s.ServiceAccountName = "mirrored"
	})
	mirror.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"}
	return stateWith(t, node("n1"), node("n2"), mine, theirs, free, mirror)
}

// request reads "verb group/resource/subresource namespace name selector",
// where - is nothing.
func request(t *testing.T, text string) Attributes {
	t.Helper()
	words := strings.Fields(text)
	for len(words) < 5 {
		words = append(words, "-")
	}
	for i := range words {
		words[i] = strings.TrimPrefix(words[i], "-")
	}
	path := append(strings.Split(words[1], "/"), "")
	return Attributes{
		User: User{Name: "system:node:n1", Groups: []string{GroupNodes, GroupAuthenticated}},
		Verb: words[0], Version: "v1", Group: path[0], Resource: path[1], Subresource: path[2],
		Namespace: words[2], Name: words[3], FieldSelector: words[4],
	}
}

func TestNodeMay(t *testing.T) {
	chain := NewAuthorizer(cluster(t))
	for _, text := range []string{
		"get /secrets ns pull", "get /secrets ns env", "get /secrets ns env-from", "get /secrets ns volume",
		"get /secrets ns projected", "get /secrets ns debug", "get /secrets ns csi",
		"get /configmaps ns env", "get /configmaps ns env-from", "get /configmaps ns volume", "get /configmaps ns projected",
		"get /configmaps kube-system skiff-cluster", "watch /configmaps kube-system - metadata.name=skiff-cluster",
		"list /secrets ns - metadata.name=pull", "watch /configmaps ns env metadata.name=env",
		"get /serviceaccounts ns app", "create /serviceaccounts/token ns app",
		"get /pods ns mine", "list /pods - - spec.nodeName=n1", "watch /pods - - spec.nodeName=n1,status.phase!=Failed",
		"list /pods ns - spec.nodeName==n1", "watch /pods ns mine metadata.name=mine", "delete /pods ns mine",
		"patch /pods/status ns mine", "update /pods/status ns mine", "create /pods/eviction ns mine",
		"create /pods ns", // admission refuses all but mirrors
		"get /nodes - n1", "list /nodes - - metadata.name=n1", "watch /nodes - n1", "create /nodes",
		"get /nodes - n2", "list /nodes", "watch /nodes", "watch /nodes - n2", "patch /nodes - n1", "update /nodes - n1",
		"update /nodes/status - n1", "patch /nodes/status - n1", "delete /nodes - n1",
		"get coordination.k8s.io/leases kube-node-lease n1", "create coordination.k8s.io/leases kube-node-lease",
		"update coordination.k8s.io/leases kube-node-lease n1", "patch coordination.k8s.io/leases kube-node-lease n1",
		"list /services", "watch /services", "get /services ns web", "list /endpoints", "watch discovery.k8s.io/endpointslices",
		"list /namespaces", "get /namespaces ns ns",
		"create /events ns", "patch /events ns e", "create events.k8s.io/events ns", "update events.k8s.io/events ns e",
		"create certificates.k8s.io/certificatesigningrequests", "get certificates.k8s.io/certificatesigningrequests - c",
		"get node.k8s.io/runtimeclasses - c", "list node.k8s.io/runtimeclasses", "watch node.k8s.io/runtimeclasses",
		"list certificates.k8s.io/certificatesigningrequests", "watch certificates.k8s.io/certificatesigningrequests - - metadata.name=c",
		"create authentication.k8s.io/tokenreviews", "create authorization.k8s.io/subjectaccessreviews",
	} {
		if d, reason, err := chain.Authorize(t.Context(), request(t, text)); d != Allow || err != nil {
			t.Errorf("%s: refused (%s) %v", text, reason, err)
		}
	}
}

// TestStolenNodeCertificate tries what someone would who has a node's
// certificate and wants more than that node.
func TestStolenNodeCertificate(t *testing.T) {
	const unrelated = "no relationship found between node 'n1' and this object"
	chain := NewAuthorizer(cluster(t))
	for text, want := range map[string]string{
		"get /secrets ns theirs":                                       unrelated,
		"get /secrets ns mirrored":                                     unrelated,
		"get /secrets other pull":                                      unrelated,
		"get /secrets ns app":                                          unrelated, // a service account's name, not a Secret's
		"list /secrets ns":                                             "No Object name found",
		"list /secrets":                                                "can only read namespaced object of this type",
		"list /secrets - - metadata.name=pull":                         "can only read namespaced object of this type",
		"list /secrets ns - metadata.name!=pull":                       "No Object name found",
		"list /secrets ns - type=Opaque":                               "No Object name found",
		"create /secrets ns":                                           "can only read resources of this type",
		"update /secrets ns pull":                                      "can only read resources of this type",
		"delete /secrets ns pull":                                      "can only read resources of this type",
		"deletecollection /secrets ns":                                 "can only read resources of this type",
		"get /secrets/status ns pull":                                  "cannot read subresource",
		"patch /configmaps ns env":                                     "can only read resources of this type",
		"get /configmaps ns theirs":                                    unrelated,
		"get /configmaps ns skiff-cluster":                             unrelated,
		"patch /configmaps kube-system skiff-cluster":                  "can only read resources of this type",
		"create /serviceaccounts/token ns other":                       unrelated,
		"create /serviceaccounts/token ns mirrored":                    unrelated,
		"create /serviceaccounts/token kube-system app":                unrelated,
		"create /serviceaccounts/token ns":                             "can only create tokens for individual service accounts",
		"create /serviceaccounts ns":                                   "can only read resources of this type",
		"create /serviceaccounts/x ns app":                             "can only create token subresource of serviceaccount",
		"list /serviceaccounts ns":                                     "No Object name found",
		"get /pods ns theirs":                                          unrelated,
		"get /pods ns free":                                            unrelated,
		"get /pods ns missing":                                         unrelated,
		"list /pods":                                                   "can only list/watch pods with spec.nodeName field selector",
		"list /pods ns":                                                "can only list/watch pods with spec.nodeName field selector",
		"list /pods - - spec.nodeName=n2":                              "can only list/watch pods with spec.nodeName field selector",
		"watch /pods - - spec.nodeName!=n1":                            "can only list/watch pods with spec.nodeName field selector",
		"watch /pods ns - metadata.name=theirs":                        unrelated,
		"delete /pods ns theirs":                                       unrelated,
		"patch /pods/status ns theirs":                                 unrelated,
		"patch /pods/status ns free":                                   unrelated,
		"create /pods/eviction ns theirs":                              unrelated,
		"update /pods ns mine":                                         "",
		"patch /pods ns mine":                                          "",
		"create /pods/binding ns mine":                                 "",
		"create /pods/exec ns mine":                                    "",
		"get /pods/log ns mine":                                        "",
		"deletecollection /pods ns - spec.nodeName=n1":                 "",
		"get /nodes/status - n2":                                       "",
		"patch /nodes - n2":                                            `node "n1" is not allowed to modify node "n2"`,
		"update /nodes/status - n2":                                    `node "n1" is not allowed to modify node "n2"`,
		"delete /nodes - n2":                                           `node "n1" is not allowed to modify node "n2"`,
		"deletecollection /nodes":                                      "",
		"get /nodes/proxy - n1":                                        "",
		"create /nodes/proxy - n2":                                     "",
		"update coordination.k8s.io/leases kube-node-lease n2":         "can only access node lease with the same name as the requesting node",
		"update coordination.k8s.io/leases kube-system scheduler":      `can only access leases in the "kube-node-lease" system namespace`,
		"create coordination.k8s.io/leases default":                    `can only access leases in the "kube-node-lease" system namespace`,
		"list coordination.k8s.io/leases kube-node-lease":              "can only get, create, update, patch, or delete a node lease",
		"deletecollection coordination.k8s.io/leases kube-node-lease":  "can only get, create, update, patch, or delete a node lease",
		"update /services ns web":                                      "",
		"create discovery.k8s.io/endpointslices ns":                    "",
		"delete /namespaces ns ns":                                     "",
		"list /events ns":                                              "",
		"delete /events ns e":                                          "",
		"list apps/deployments ns":                                     "",
		"create apps/deployments ns":                                   "",
		"create authentication.k8s.io/tokenreviews/x":                  "",
		"get scheduling.k8s.io/priorityclasses - system-node-critical": "",

		"update certificates.k8s.io/certificatesigningrequests - c":           "",
		"delete certificates.k8s.io/certificatesigningrequests - c":           "",
		"update certificates.k8s.io/certificatesigningrequests/approval - c":  "",
		"patch certificates.k8s.io/certificatesigningrequests/status - c":     "",
		"approve certificates.k8s.io/signers - kubernetes.io/kubelet-serving": "",
	} {
		d, reason, err := chain.Authorize(t.Context(), request(t, text))
		if d == Allow || err != nil {
			t.Errorf("%s: allowed %v", text, err)
		} else if reason != want {
			t.Errorf("%s: refused for %q, want %q", text, reason, want)
		}
	}
}

func TestNodeWithoutName(t *testing.T) {
	a := request(t, "get /secrets ns pull")
	a.User.Name = "system:node:"
	d, reason, err := NewNode(cluster(t)).Authorize(t.Context(), a)
	if d != NoOpinion || reason != `unknown node for user "system:node:"` || err != nil {
		t.Error(d, reason, err)
	}
}

// TestNodeLosesAccess makes sure that what a node may read follows its Pods.
func TestNodeLosesAccess(t *testing.T) {
	s := cluster(t)
	n := NewNode(s)
	a := request(t, "get /secrets ns pull")
	if d, reason, _ := n.Authorize(t.Context(), a); d != Allow {
		t.Fatal(reason)
	}
	remove(t, s, pod("mine", "n1"))
	if d, _, _ := n.Authorize(t.Context(), a); d == Allow {
		t.Error("a node reads the Secret of a Pod that is gone")
	}
}
