package admission

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validation/path"
	utilrand "k8s.io/apimachinery/pkg/util/rand"

	"github.com/skiff-sh/skiff/internal/kind"
	"github.com/skiff-sh/skiff/internal/state"
)

const (
	defaultAccount   = "default"
	tokenMountPath   = "/var/run/secrets/kubernetes.io/serviceaccount"
	tokenVolume      = "kube-api-access-" // and a random suffix
	tokenSeconds     = 60*60 + 7          // an odd number, by which the API recognizes such tokens
	rootCAConfigMap  = "kube-root-ca.crt"
	mirrorAnnotation = corev1.MirrorPodAnnotationKey
	accountPatience  = 1500 * time.Millisecond // as long as upstream's at most
)

// serviceAccount gives every Pod an account and mounts its token.
func serviceAccount(s *state.State) Step {
	return Step{
		Name: "ServiceAccount",
		Mutate: func(ctx context.Context, r *Request) error {
			if r.Operation != Create || !r.is(kind.Pod, "") {
				return nil
			}
			pod := r.Object.(*corev1.Pod)
			if _, mirror := pod.Annotations[mirrorAnnotation]; mirror {
				return checkMirror(r, pod)
			}
			if pod.Spec.ServiceAccountName == "" {
				pod.Spec.ServiceAccountName = defaultAccount
				// The old name of the field follows, as it does for clients
				// that set the new one.
				pod.Spec.DeprecatedServiceAccount = defaultAccount
			}
			name := pod.Spec.ServiceAccountName
			if wrong := path.IsValidPathSegmentName(name); len(wrong) > 0 {
				return r.Forbid(fmt.Errorf("error looking up service account %s/%s: invalid resource name %q: %v", r.Namespace, name, name, wrong))
			}
			account := findAccount(ctx, s, r.Namespace, name)
			if account == nil {
				return r.Forbid(fmt.Errorf("error looking up service account %s/%s: serviceaccount %q not found", r.Namespace, name, name))
			}
			if wantsToken(pod, account) {
				mountToken(pod)
			}
			if len(pod.Spec.ImagePullSecrets) == 0 {
				pod.Spec.ImagePullSecrets = append([]corev1.LocalObjectReference(nil), account.ImagePullSecrets...)
			}
			return nil
		},
	}
}

// findAccount returns an account, or nil. In a namespace that is just made the
// default one may be on its way: that is worth a moment.
func findAccount(ctx context.Context, s *state.State, namespace, name string) *corev1.ServiceAccount {
	account, ok := state.Get[*corev1.ServiceAccount](s, kind.ServiceAccount, namespace, name)
	if ok || name != defaultAccount {
		return account
	}
	ctx, cancel := context.WithTimeout(ctx, accountPatience)
	defer cancel()
	snapshot, w := s.ListWatch(kind.ServiceAccount, state.Interest{Namespace: namespace, Name: name})
	defer w.Stop()
	if obj, ok := snapshot.Get(namespace, name); ok {
		return obj.(*corev1.ServiceAccount)
	}
	for {
		event, err := w.Next(ctx)
		if err != nil {
			return nil
		}
		if event.Type != state.Deleted {
			return event.Object.(*corev1.ServiceAccount)
		}
	}
}

// checkMirror keeps what stands for a node's static Pod from using an account.
func checkMirror(r *Request, pod *corev1.Pod) error {
	if pod.Spec.ServiceAccountName != "" {
		return r.Forbid(errors.New("a mirror pod may not reference service accounts"))
	}
	if namesSecret(&pod.Spec) {
		return r.Forbid(errors.New("a mirror pod may not reference secrets"))
	}
	for _, v := range pod.Spec.Volumes {
		if v.Projected == nil {
			continue
		}
		for _, source := range v.Projected.Sources {
			if source.ServiceAccountToken != nil {
				return r.Forbid(errors.New("a mirror pod may not use ServiceAccountToken volume projections"))
			}
		}
	}
	return nil
}

// wantsToken: the Pod decides, then its account; unless they say no, yes.
func wantsToken(pod *corev1.Pod, account *corev1.ServiceAccount) bool {
	if b := pod.Spec.AutomountServiceAccountToken; b != nil {
		return *b
	}
	if b := account.AutomountServiceAccountToken; b != nil {
		return *b
	}
	return true
}

// mountToken adds the volume with the token, the cluster's certificate and the
// namespace, and mounts it where a container has nothing at that path.
func mountToken(pod *corev1.Pod) {
	name := tokenVolumeName(pod)
	first := mountAll(pod.Spec.InitContainers, name)
	if second := mountAll(pod.Spec.Containers, name); !first && !second {
		return
	}
	for _, v := range pod.Spec.Volumes {
		if v.Name == name {
			return
		}
	}
	pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{
		Name:         name,
		VolumeSource: corev1.VolumeSource{Projected: tokenProjection()},
	})
}

// tokenVolumeName returns the name of the volume that there is, or a new one.
func tokenVolumeName(pod *corev1.Pod) string {
	taken := map[string]bool{}
	for _, v := range pod.Spec.Volumes {
		if len(v.Name) > len(tokenVolume) && v.Name[:len(tokenVolume)] == tokenVolume {
			return v.Name
		}
		taken[v.Name] = true
	}
	for {
		if name := tokenVolume + utilrand.String(5); !taken[name] {
			return name
		}
	}
}

// mountAll reports whether a container got the mount.
func mountAll(containers []corev1.Container, volume string) (mounted bool) {
	for i := range containers {
		c := &containers[i]
		if hasMount(c, tokenMountPath) {
			continue
		}
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: volume, ReadOnly: true, MountPath: tokenMountPath})
		mounted = true
	}
	return mounted
}

func hasMount(c *corev1.Container, path string) bool {
	for _, m := range c.VolumeMounts {
		if m.MountPath == path {
			return true
		}
	}
	return false
}

func tokenProjection() *corev1.ProjectedVolumeSource {
	mode, seconds := corev1.ProjectedVolumeSourceDefaultMode, int64(tokenSeconds)
	return &corev1.ProjectedVolumeSource{
		DefaultMode: &mode,
		Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: &seconds}},
			{ConfigMap: &corev1.ConfigMapProjection{
				LocalObjectReference: corev1.LocalObjectReference{Name: rootCAConfigMap},
				Items:                []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}},
			}},
			{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{
				Path:     "namespace",
				FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.namespace"},
			}}}},
		},
	}
}
