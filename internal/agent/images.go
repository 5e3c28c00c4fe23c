package agent

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
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

// pullState is an image's pull back-off.
type pullState struct {
	Delay time.Duration
	Until time.Time
	Err   string // of the last pull
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
	w.durations.image.since(began)
	if err != nil {
		w.event(want.Container, corev1.EventTypeWarning, "InspectFailed", "Failed to inspect image %q: %v", want.Ref, err)
		return Image{}, waitError{Reason: "ImageInspectError", Err: fmt.Errorf("failed to inspect image %q: %w", want.Ref, err)}
	}
	policy := want.Policy
	if present && policy != corev1.PullAlways {
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
			Err: fmt.Errorf("Back-off pulling image %q: ErrImagePull: %s", want.Ref, state.Err),
		}
	}
	credentials, err := pullCredentials(ctx, pod, w.objects)
	if err != nil {
		// Upstream pulls without a secret that cannot be read, and says so.
		w.eventPod(corev1.EventTypeWarning, "FailedToRetrieveImagePullSecret", "Unable to retrieve some image pull secrets (%s); attempting to pull the image may not succeed.", missingSecrets(err))
	}
	w.event(want.Container, corev1.EventTypeNormal, "Pulling", "Pulling image %q", want.Ref)
	begun := time.Now()
	image, err := w.Images.Pull(ctx, want.Ref, credentials)
	w.durations.pull.since(begun)
	if err != nil {
		if ctx.Err() != nil {
			return Image{}, waitError{Reason: "ErrImagePull", Err: err}
		}
		state.Delay = min(max(2*state.Delay, crashDelay), crashMaxDelay)
		state.Until, state.Err = time.Now().Add(state.Delay), err.Error()
		w.pulls[want.Ref] = state
		w.event(want.Container, corev1.EventTypeWarning, "Failed", "Failed to pull image %q: %v", want.Ref, err)
		return Image{}, waitError{Reason: "ErrImagePull", Err: err}
	}
	delete(w.pulls, want.Ref)
	took := time.Since(begun).Truncate(time.Millisecond)
	w.event(want.Container, corev1.EventTypeNormal, "Pulled", "Successfully pulled image %q in %v (%v including waiting). Image size: %v bytes.", want.Ref, took, took, image.Size)
	w.pokeNode()
	return image, nil
}

// missing names the pull secrets that could not be read.
type missing []string

func (m missing) Error() string { return strings.Join(m, ", ") }

func missingSecrets(err error) string {
	var m missing
	if errors.As(err, &m) {
		return m.Error()
	}
	return err.Error()
}

// dockerConfig is the content of a pull secret.
type dockerConfig struct {
	Auths map[string]dockerAuth `json:"auths"`
}

type dockerAuth struct {
	Username      string `json:"username"`
	Password      string `json:"password"`
	Auth          string `json:"auth"`
	IdentityToken string `json:"identitytoken"`
}

// pullCredentials reads the Pod's pull secrets. It returns what it found also
// when some are missing.
func pullCredentials(ctx context.Context, pod *corev1.Pod, from objects) ([]Credential, error) {
	var out []Credential
	var lost missing
	for _, ref := range pod.Spec.ImagePullSecrets {
		secret, err := from.Secret(ctx, pod.Namespace, ref.Name)
		if err != nil {
			lost = append(lost, ref.Name)
			continue
		}
		found, err := parseDockerConfig(secret)
		if err != nil {
			lost = append(lost, ref.Name)
			continue
		}
		out = append(out, found...)
	}
	if len(lost) > 0 {
		return out, lost
	}
	return out, nil
}

func parseDockerConfig(secret *corev1.Secret) ([]Credential, error) {
	var config dockerConfig
	var err error
	if data, ok := secret.Data[corev1.DockerConfigJsonKey]; ok {
		err = json.Unmarshal(data, &config)
	} else if data, ok := secret.Data[corev1.DockerConfigKey]; ok {
		err = json.Unmarshal(data, &config.Auths)
	}
	if err != nil {
		return nil, fmt.Errorf("parse pull secret %s/%s: %w", secret.Namespace, secret.Name, err)
	}
	var out []Credential
	for registry, a := range config.Auths {
		c := Credential{Registry: registryHost(registry), Username: a.Username, Password: a.Password, Token: a.IdentityToken}
		if plain, err := base64.StdEncoding.DecodeString(a.Auth); err == nil && a.Auth != "" {
			c.Username, c.Password, _ = strings.Cut(string(plain), ":")
		}
		out = append(out, c)
	}
	return out, nil
}

// registryHost takes scheme and API version off an old-style registry key.
func registryHost(key string) string {
	key = strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
	key = strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(key, "/"), "/v1"), "/v2")
	if key == "index.docker.io" {
		return "docker.io"
	}
	return key
}
