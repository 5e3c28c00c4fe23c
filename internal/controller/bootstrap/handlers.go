package bootstrap

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/skiff-sh/skiff/internal/controller"
	"github.com/skiff-sh/skiff/internal/kind"
)

// offered are the RuntimeClasses for handlers that nodes may have, by handler.
var offered = map[string]string{
	"crun":                "crun",
	"nvidia":              "nvidia",
	"nvidia-experimental": "nvidia-experimental",
	"runsc":               "gvisor", // as its own documents name it
}

// offerHandlers makes RuntimeClasses for what a node says that it can run Pods
// by, so that they can be named. A class of that name that is there already is
// left alone.
func offerHandlers(ctx context.Context, env controller.Environment, node string) error {
	obj, ok := env.State.Get(kind.Node, "", node)
	if !ok {
		return nil
	}
	for _, h := range obj.(*corev1.Node).Status.RuntimeHandlers {
		name, known := offered[h.Name]
		if !known {
			continue
		}
		class := func() kind.Object {
			return &nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Handler: h.Name}
		}
		if err := ensure(ctx, env, wanted{kind: kind.RuntimeClass, make: class}); err != nil {
			return err
		}
	}
	return nil
}
