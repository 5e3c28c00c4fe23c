package containerd

import (
	"context"
	"time"

	"go.uber.org/zap"
)

// placePatience is how long a daemon may take to say where it keeps things.
const placePatience = 5 * time.Second

// ImageDir is where images and the containers' layers lie; "" if a daemon does not say.
func (r *Runtime) ImageDir() string {
	if r.config.Address == "" {
		return r.dataDir()
	}
	ctx, cancel := context.WithTimeout(context.Background(), placePatience)
	defer cancel()
	answer, err := r.store.client.IntrospectionService().Plugins(r.scope(ctx), "type==io.containerd.snapshotter.v1", "id=="+r.store.snapshotter)
	if err != nil {
		r.config.Log.Warn("ask containerd where it keeps images: the disk they are on is not watched", zap.Error(err))
		return ""
	}
	for _, p := range answer.GetPlugins() {
		if p.GetType() == "io.containerd.snapshotter.v1" && p.GetID() == r.store.snapshotter {
			return p.GetExports()["root"]
		}
	}
	return ""
}
