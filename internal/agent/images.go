package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/distribution/reference"
	corev1 "k8s.io/api/core/v1"
)

// waitError is why a container cannot start now, in the words of its status.
type waitError struct {
	Reason string
	Err    error
	Until  time.Time // when to try again, where that is known
}

func (e waitError) Error() string { return e.Err.Error() }
func (e waitError) Unwrap() error { return e.Err }

// wish is an image that a Pod wants: a container's, or one that is a volume.
type wish struct {
	Ref       string
	Policy    corev1.PullPolicy
	Container *corev1.Container // whom the events are about; nil: the Pod
}

// ErrRegistryUnavailable is what a pull fails with, with errors.Is, where the registry
// does not answer, or not what it was asked.
var ErrRegistryUnavailable = errors.New("the registry cannot be reached")

// pullState is an image's pull back-off.
type pullState struct {
	Delay time.Duration
	Until time.Time
	Err   string // reason and message of the last pull
}

// pullFailure is why a container waits whose image could not be pulled.
func pullFailure(ref string, err error) waitError {
	if errors.Is(err, ErrRegistryUnavailable) {
		return waitError{
			Reason: "RegistryUnavailable",
			Err:    fmt.Errorf("image pull failed for %s because the registry is unavailable: %w", ref, err),
		}
	}
	return waitError{Reason: "ErrImagePull", Err: err}
}

// image makes an image present by its pull policy.
func (w *worker) image(ctx context.Context, pod *corev1.Pod, want wish) (Image, error) {
	if _, err := reference.ParseDockerRef(want.Ref); err != nil {
		err = fmt.Errorf("Failed to apply default image tag %q: couldn't parse image name %q: %w", want.Ref, want.Ref, err)
		w.event(want.Container, corev1.EventTypeWarning, "InspectFailed", "%v", err)
		return Image{}, waitError{Reason: "InvalidImageName", Err: err}
	}
	began := time.Now()
	image, present, err := w.Images.Get(ctx, want.Ref)
	observe(w.durations.image, began)
	if err != nil {
		w.event(want.Container, corev1.EventTypeWarning, "InspectFailed", "Failed to inspect image %q: %v", want.Ref, err)
		return Image{}, waitError{Reason: "ImageInspectError", Err: fmt.Errorf("failed to inspect image %q: %w", want.Ref, err)}
	}
	policy := want.Policy
	if present && policy != corev1.PullAlways && mayHave(ctx, pod, want.Ref, image, w.objects) {
		w.event(want.Container, corev1.EventTypeNormal, "Pulled", "Container image %q already present on machine and can be accessed by the pod", want.Ref)
		return image, nil
	}
	if policy == corev1.PullNever {
		err := fmt.Errorf("Container image %q is not present with pull policy of Never", want.Ref)
		w.event(want.Container, corev1.EventTypeWarning, "ErrImageNeverPull", "%s", err)
		return Image{}, waitError{Reason: "ErrImageNeverPull", Err: err}
	}
	return w.pull(ctx, pod, want)
}

func (w *worker) pull(ctx context.Context, pod *corev1.Pod, want wish) (Image, error) {
	state := w.pulls[want.Ref]
	if time.Now().Before(state.Until) {
		w.event(want.Container, corev1.EventTypeNormal, "BackOff", "Back-off pulling image %q", want.Ref)
		return Image{}, waitError{
			Reason: "ImagePullBackOff", Until: state.Until,
			Err: fmt.Errorf("Back-off pulling image %q: %s", want.Ref, state.Err),
		}
	}
	credentials, err := pullCredentials(ctx, pod, want.Ref, w.objects)
	if err != nil {
		// Upstream pulls without a secret that cannot be read, and says so.
		w.eventPod(corev1.EventTypeWarning, "FailedToRetrieveImagePullSecret", "Unable to retrieve some image pull secrets (%s); attempting to pull the image may not succeed.", err)
	}
	w.event(want.Container, corev1.EventTypeNormal, "Pulling", "Pulling image %q", want.Ref)
	begun := time.Now()
	image, err := w.Images.Pull(ctx, want.Ref, credentials)
	observe(w.durations.pull, begun)
	if err != nil {
		if ctx.Err() != nil {
			return Image{}, waitError{Reason: "ErrImagePull", Err: err}
		}
		state.Delay = min(max(2*state.Delay, crashDelay), crashMaxDelay)
		failed := pullFailure(want.Ref, err)
		state.Until, state.Err = time.Now().Add(state.Delay), failed.Reason+": "+failed.Error()
		w.pulls[want.Ref] = state
		w.event(want.Container, corev1.EventTypeWarning, "Failed", "Failed to pull image %q: %v", want.Ref, err)
		return Image{}, failed
	}
	delete(w.pulls, want.Ref)
	took, waited := image.Took.Truncate(time.Millisecond), time.Since(begun).Truncate(time.Millisecond)
	w.event(want.Container, corev1.EventTypeNormal, "Pulled", "Successfully pulled image %q in %v (%v including waiting). Image size: %v bytes.", want.Ref, took, waited, image.Size)
	w.pokeNode()
	return image, nil
}
