package volume

import (
	"context"
	"fmt"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// maxTokenAge renews long-lived tokens daily, as upstream does.
const maxTokenAge = 24 * time.Hour

// tokens are the service-account tokens of mounted Pods.
type tokens struct {
	client kubernetes.Interface

	mu    sync.Mutex
	known map[tokenKey]token
}

type tokenKey struct {
	podUID, audience string
	seconds          int64
}

type token struct {
	token   string
	refresh time.Time
}

// get returns the Pod's token, a fresh one when the old has lived 80 % of its
// time. One that cannot be renewed serves on until it expires.
func (t *tokens) get(ctx context.Context, pod *corev1.Pod, s *corev1.ServiceAccountTokenProjection) (token, error) {
	key := tokenKey{podUID: string(pod.UID), audience: s.Audience, seconds: 3600}
	if s.ExpirationSeconds != nil {
		key.seconds = *s.ExpirationSeconds
	}
	t.mu.Lock()
	known, ok := t.known[key]
	t.mu.Unlock()
	if ok && time.Now().Before(known.refresh) {
		return known, nil
	}
	fresh, err := t.request(ctx, pod, key)
	if err != nil {
		return token{}, fmt.Errorf("failed to fetch token: %w", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.known == nil {
		t.known = map[tokenKey]token{}
	}
	t.known[key] = fresh
	return fresh, nil
}

func (t *tokens) request(ctx context.Context, pod *corev1.Pod, key tokenKey) (token, error) {
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: &key.seconds,
		BoundObjectRef: &authenticationv1.BoundObjectReference{
			APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID,
		},
	}}
	if key.audience != "" {
		request.Spec.Audiences = []string{key.audience}
	}
	account := pod.Spec.ServiceAccountName
	if account == "" {
		account = "default"
	}
	asked := time.Now()
	got, err := t.client.CoreV1().ServiceAccounts(pod.Namespace).CreateToken(ctx, account, request, metav1.CreateOptions{})
	if err != nil {
		return token{}, err
	}
	// The life counts from here on our clock: the server's may differ.
	life := time.Duration(key.seconds) * time.Second
	if got.Spec.ExpirationSeconds != nil {
		life = time.Duration(*got.Spec.ExpirationSeconds) * time.Second
	}
	return token{token: got.Status.Token, refresh: asked.Add(min(life*8/10, maxTokenAge))}, nil
}

// expire makes all tokens due.
func (t *tokens) expire() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, known := range t.known {
		known.refresh = time.Time{}
		t.known[key] = known
	}
}

func (t *tokens) forget(podUID string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key := range t.known {
		if key.podUID == podUID {
			delete(t.known, key)
		}
	}
}
