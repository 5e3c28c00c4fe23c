package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/skiff-sh/skiff/internal/agent/volume"
)

// imageVolumes makes what the container mounts of images stand. A volume that
// stands keeps its image for as long as the Pod lives, whatever its name means
// by then; one that no container mounts is never fetched.
func (w *worker) imageVolumes(ctx context.Context, pod *corev1.Pod, box sandbox, c *corev1.Container) error {
	for _, vol := range imageVolumesOf(pod, c) {
		dir := box.Volumes[vol.Name]
		if there, err := volume.Mounted(dir); err != nil || there {
			if err != nil {
				return waitError{Reason: "CreateContainerError", Err: err}
			}
			continue
		}
		image, err := w.image(ctx, pod, wish{Ref: vol.Image.Reference, Policy: vol.Image.PullPolicy})
		if err != nil {
			return err
		}
		if err := w.Images.Mount(ctx, image, w.uid+"/"+vol.Name, dir); err != nil {
			return imageMountError(err)
		}
	}
	return nil
}

// imageMountError is a volume of an image that cannot be mounted, as the
// container runtime interface has it.
func imageMountError(err error) error {
	return waitError{Reason: "CreateContainerError", Err: fmt.Errorf("failed to mount image volume: ImageVolumeMountFailed: %w", err)}
}

// imageVolumesOf are the Pod's volumes of images that the container mounts.
func imageVolumesOf(pod *corev1.Pod, c *corev1.Container) []*corev1.Volume {
	var out []*corev1.Volume
	for i := range pod.Spec.Volumes {
		vol := &pod.Spec.Volumes[i]
		if vol.Image != nil && slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == vol.Name }) {
			out = append(out, vol)
		}
	}
	return out
}

// removeImageVolumes unmounts a Pod's images and lets go of them.
func (a *Agent) removeImageVolumes(ctx context.Context, uid string) error {
	names, err := a.volumes.Images(uid)
	errs := []error{err}
	for _, name := range names {
		errs = append(errs, a.Images.Unmount(ctx, uid+"/"+name, a.volumes.ImageDir(uid, name)))
	}
	return errors.Join(errs...)
}
