package volume

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// file is one file of a volume.
type file struct {
	Data []byte
	Mode int32
	UID  *int64 // owner, where it is not root
}

// collector gathers the files of one volume.
type collector struct {
	volumes *Volumes
	pod     *corev1.Pod
	files   map[string]file
	refresh time.Time // when a token in it wants renewal
}

func (c *collector) collect(ctx context.Context, vol *corev1.Volume) error {
	switch {
	case vol.ConfigMap != nil:
		s := vol.ConfigMap
		return c.configMap(ctx, s.Name, s.Items, s.Optional, mode(s.DefaultMode))
	case vol.Secret != nil:
		s := vol.Secret
		return c.secret(ctx, s.SecretName, s.Items, s.Optional, mode(s.DefaultMode))
	case vol.DownwardAPI != nil:
		return c.downward(vol.DownwardAPI.Items, mode(vol.DownwardAPI.DefaultMode))
	}
	defaultMode := mode(vol.Projected.DefaultMode)
	for _, s := range vol.Projected.Sources {
		var err error
		switch {
		case s.ConfigMap != nil:
			err = c.configMap(ctx, s.ConfigMap.Name, s.ConfigMap.Items, s.ConfigMap.Optional, defaultMode)
		case s.Secret != nil:
			err = c.secret(ctx, s.Secret.Name, s.Secret.Items, s.Secret.Optional, defaultMode)
		case s.DownwardAPI != nil:
			err = c.downward(s.DownwardAPI.Items, defaultMode)
		case s.ServiceAccountToken != nil:
			err = c.token(ctx, s.ServiceAccountToken, defaultMode)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func mode(m *int32) int32 {
	if m == nil {
		return 0o644
	}
	return *m
}

func (c *collector) configMap(ctx context.Context, name string, items []corev1.KeyToPath, optional *bool, defaultMode int32) error {
	cm, err := c.volumes.Objects.ConfigMap(ctx, c.pod.Namespace, name)
	if err != nil {
		return mayMiss(optional, err)
	}
	data := make(map[string][]byte, len(cm.Data)+len(cm.BinaryData))
	for k, v := range cm.Data {
		data[k] = []byte(v)
	}
	for k, v := range cm.BinaryData {
		data[k] = v
	}
	return c.keys(data, items, optional, defaultMode, "config key")
}

func (c *collector) secret(ctx context.Context, name string, items []corev1.KeyToPath, optional *bool, defaultMode int32) error {
	secret, err := c.volumes.Objects.Secret(ctx, c.pod.Namespace, name)
	if err != nil {
		return mayMiss(optional, err)
	}
	return c.keys(secret.Data, items, optional, defaultMode, "secret key")
}

func (c *collector) keys(data map[string][]byte, items []corev1.KeyToPath, optional *bool, defaultMode int32, what string) error {
	if len(items) == 0 {
		for k, v := range data {
			c.files[k] = file{Data: v, Mode: defaultMode}
		}
		return nil
	}
	for _, item := range items {
		v, ok := data[item.Key]
		if !ok {
			if optional != nil && *optional {
				continue
			}
			return fmt.Errorf("references non-existent %s: %s", what, item.Key)
		}
		f := file{Data: v, Mode: defaultMode}
		if item.Mode != nil {
			f.Mode = *item.Mode
		}
		c.files[filepath.Clean(item.Path)] = f
	}
	return nil
}

func (c *collector) downward(items []corev1.DownwardAPIVolumeFile, defaultMode int32) error {
	for _, item := range items {
		var value string
		var err error
		switch {
		case item.FieldRef != nil:
			value, err = Field(c.pod, item.FieldRef.FieldPath)
		case item.ResourceFieldRef != nil:
			value, err = c.resource(item.ResourceFieldRef)
		}
		if err != nil {
			return err
		}
		f := file{Data: []byte(value), Mode: defaultMode}
		if item.Mode != nil {
			f.Mode = *item.Mode
		}
		c.files[filepath.Clean(item.Path)] = f
	}
	return nil
}

func (c *collector) resource(ref *corev1.ResourceFieldSelector) (string, error) {
	for _, list := range [][]corev1.Container{c.pod.Spec.InitContainers, c.pod.Spec.Containers} {
		for i := range list {
			if list[i].Name == ref.ContainerName {
				return ResourceField(c.pod, &list[i], ref, c.volumes.Allocatable)
			}
		}
	}
	return "", fmt.Errorf("container %s not found", ref.ContainerName)
}

func (c *collector) token(ctx context.Context, s *corev1.ServiceAccountTokenProjection, defaultMode int32) error {
	t, err := c.volumes.tokens.get(ctx, c.pod, s)
	if err != nil {
		return err
	}
	if c.refresh.IsZero() || t.refresh.Before(c.refresh) {
		c.refresh = t.refresh
	}
	f := file{Data: []byte(t.token), Mode: defaultMode, UID: commonUser(c.pod)}
	if f.UID != nil || fsGroup(c.pod) != nil {
		f.Mode = 0o600
	}
	c.files[filepath.Clean(s.Path)] = f
	return nil
}

// commonUser is the user that all containers run as, where the Pod says so of
// each: it owns the token.
func commonUser(pod *corev1.Pod) *int64 {
	var common *int64
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			var user *int64
			if pod.Spec.SecurityContext != nil {
				user = pod.Spec.SecurityContext.RunAsUser
			}
			if s := list[i].SecurityContext; s != nil && s.RunAsUser != nil {
				user = s.RunAsUser
			}
			if user == nil || common != nil && *common != *user {
				return nil
			}
			common = user
		}
	}
	return common
}

func mayMiss(optional *bool, err error) error {
	if optional != nil && *optional && apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
