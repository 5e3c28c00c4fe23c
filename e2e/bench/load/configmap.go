package load

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
)

// Verb is an operation on a ConfigMap.
type Verb struct {
	Name string
	// Once says that it works on each ConfigMap once: create and delete.
	Once bool
	Do   func(ctx context.Context, c typedcorev1.ConfigMapInterface, name string) error
}

var payload = strings.Repeat("x", 1024)

// ConfigMap returns one of 1 KB. The tag makes it differ from what it replaces.
func ConfigMap(name, tag string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{"payload": payload, "tag": tag}}
}

// Verbs are in the order in which they work: first what makes ConfigMaps, last what
// removes them.
var Verbs = []Verb{
	{"create", true, func(ctx context.Context, c typedcorev1.ConfigMapInterface, name string) error {
		_, err := c.Create(ctx, ConfigMap(name, ""), metav1.CreateOptions{})
		return err
	}},
	{"get", false, func(ctx context.Context, c typedcorev1.ConfigMapInterface, name string) error {
		_, err := c.Get(ctx, name, metav1.GetOptions{})
		return err
	}},
	{"update", false, func(ctx context.Context, c typedcorev1.ConfigMapInterface, name string) error {
		_, err := c.Update(ctx, ConfigMap(name, time.Now().String()), metav1.UpdateOptions{})
		return err
	}},
	{"patch", false, func(ctx context.Context, c typedcorev1.ConfigMapInterface, name string) error {
		patch := fmt.Appendf(nil, `{"data":{"tag":%q}}`, time.Now().String())
		_, err := c.Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{})
		return err
	}},
	{"delete", true, func(ctx context.Context, c typedcorev1.ConfigMapInterface, name string) error {
		return c.Delete(ctx, name, metav1.DeleteOptions{})
	}},
}

// ConfigMaps are those that the clients of one server work on.
type ConfigMaps struct {
	Clients   []*kubernetes.Clientset
	Namespace string
	Prefix    string // of their names
	created   []int  // by each client
}

// Spell has all clients do one verb for a while, each to the ConfigMaps that it
// created itself.
func (m *ConfigMaps) Spell(ctx context.Context, v Verb, spell time.Duration) (Outcome, error) {
	o, err := Run(ctx, len(m.Clients), spell, func(ctx context.Context, client, n int) error {
		switch {
		case v.Name == "create":
		case m.created[client] == 0, v.Once && n == m.created[client]:
			return ErrDone
		default:
			n %= m.created[client]
		}
		return v.Do(ctx, m.Clients[client].CoreV1().ConfigMaps(m.Namespace), fmt.Sprintf("%s-%d-%d", m.Prefix, client, n))
	})
	if v.Name == "create" {
		m.created = o.Done
	}
	if err != nil {
		return o, fmt.Errorf("%s with %d clients: %w", v.Name, len(m.Clients), err)
	}
	return o, nil
}
