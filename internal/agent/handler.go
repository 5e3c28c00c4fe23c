package agent

import (
	"context"
	"fmt"
	"os"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// defaultHandler is what runs Pods that ask for nothing else.
const defaultHandler = "runc"

// runtimeHandler is the name of what runs the Pod's containers, "" for the default. A
// Pod keeps the one that it began with: its RuntimeClass may be gone since, and
// the API server away.
func (a *Agent) runtimeHandler(ctx context.Context, pod *corev1.Pod) (string, error) {
	name := pod.Spec.RuntimeClassName
	if name == nil || *name == "" {
		return "", nil
	}
	if kept, err := os.ReadFile(a.boxMark(string(pod.UID))); err == nil {
		return string(kept), nil
	}
	class, err := a.Client.NodeV1().RuntimeClasses().Get(ctx, *name, metav1.GetOptions{})
	if err != nil {
		return "", fmt.Errorf("failed to lookup RuntimeClass %s: %w", *name, err)
	}
	if !slices.Contains(a.handlers(), class.Handler) {
		return "", fmt.Errorf("failed to get sandbox runtime: no runtime for %q is configured", class.Handler)
	}
	if class.Handler == defaultHandler {
		return "", nil
	}
	return class.Handler, nil
}

// handlers are the names that RuntimeClasses may have for this node.
func (a *Agent) handlers() []string { return append([]string{defaultHandler}, a.Handlers...) }

// runtimeHandlers is what the Node says of them; the default one has no name
// besides its own.
func (a *Agent) runtimeHandlers() []corev1.NodeRuntimeHandler {
	var out []corev1.NodeRuntimeHandler
	names := append([]string{""}, a.handlers()...)
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		out = append(out, corev1.NodeRuntimeHandler{Name: name, Features: &corev1.NodeRuntimeHandlerFeatures{
			RecursiveReadOnlyMounts: new(a.machine.RecursiveReadOnly && name != "runsc"),
			UserNamespaces:          new(name != "runsc"),
		}})
	}
	return out
}
