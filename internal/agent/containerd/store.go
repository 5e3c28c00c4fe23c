package containerd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	api "github.com/containerd/containerd/api/services/introspection/v1"
	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/events/exchange"
	"github.com/containerd/containerd/v2/core/introspection"
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/containerd/v2/plugins/diff/walking"
	bolt "go.etcd.io/bbolt"
	"go.uber.org/zap"
)

// openTimeout is how long another process may hold the metadata file.
const openTimeout = 5 * time.Second

// store is containerd's state inside this process: what a daemon would hold.
type store struct {
	client      *client.Client
	snapshotter string
	close       func() error
}

// openStore assembles content, metadata, snapshots, leases, images and
// containers below root. The parts are joined by hand: containerd's plugin
// registry would link much that a node of ours never uses.
func openStore(ctx context.Context, root string, log *zap.Logger) (*store, error) {
	path := filepath.Join(root, "meta.db")
	// First, for its lock: nothing else here tells that another skiff runs.
	db, err := bolt.Open(path, 0o600, &bolt.Options{
		Timeout: openTimeout, NoFreelistSync: true, FreelistType: bolt.FreelistMapType,
	})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w (does another skiff use this data directory?)", path, err)
	}
	blobs, err := local.NewStore(filepath.Join(root, "content"))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open content store: %w", err), db.Close())
	}
	name, snapshotter, err := openSnapshotter(ctx, root, log)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	meta := metadata.NewDB(db, blobs, map[string]snapshots.Snapshotter{name: snapshotter})
	if err := meta.Init(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), db.Close(), snapshotter.Close())
	}
	collector := startCollector(meta, log)
	c, err := client.New("", client.WithServices(services(meta, root)...))
	if err != nil {
		collector.stop()
		return nil, errors.Join(err, db.Close(), snapshotter.Close())
	}
	return &store{client: c, snapshotter: name, close: func() error {
		collector.stop()
		return errors.Join(c.Close(), db.Close(), snapshotter.Close())
	}}, nil
}

// differ is the client's view of comparing and applying layers.
type differ struct {
	comparer
	applier
}

func services(meta *metadata.DB, root string) []client.ServicesOpt {
	blobs := roomy{meta.ContentStore(), root}
	return []client.ServicesOpt{
		client.WithContentStore(blobs),
		client.WithImageStore(metadata.NewImageStore(meta)),
		client.WithContainerStore(metadata.NewContainerStore(meta)),
		client.WithLeasesService(metadata.NewLeaseManager(meta)),
		client.WithSnapshotters(meta.Snapshotters()),
		client.WithDiffService(differ{walking.NewWalkingDiff(blobs), unpacker{blobs}}),
		client.WithEventService(exchange.NewExchange()),
		client.WithIntrospectionService(plain{}),
	}
}

// plain tells the client of its snapshotter that it can do nothing special.
type plain struct{ introspection.Service }

// Plugins implements introspection.Service.
func (plain) Plugins(context.Context, ...string) (*api.PluginsResponse, error) {
	return &api.PluginsResponse{Plugins: []*api.Plugin{{}}}, nil
}

// dialStore uses a daemon that is already there.
func dialStore(ctx context.Context, address string) (*store, error) {
	c, err := client.New(address, client.WithTimeout(openTimeout))
	if err != nil {
		return nil, fmt.Errorf("connect to containerd at %s: %w", address, err)
	}
	serving, err := c.IsServing(ctx)
	if err != nil || !serving {
		return nil, errors.Join(fmt.Errorf("containerd at %s does not serve (is the address right, does the daemon run?): %w", address, err), c.Close())
	}
	return &store{client: c, snapshotter: "overlayfs", close: c.Close}, nil
}

// makeDirs makes a node's directories for containers.
func makeDirs(dirs ...string) error {
	for _, dir := range dirs {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return err
		}
	}
	return nil
}
