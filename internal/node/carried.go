package node

import (
	"context"
	"fmt"
	"sync"

	"github.com/skiff-sh/skiff/embed"
	"github.com/skiff-sh/skiff/internal/agent"
	"github.com/skiff-sh/skiff/internal/agent/image"
)

// carried is an image store that also has the images this executable carries:
// they are imported when they are first asked for, once for all who ask.
type carried struct {
	ownStore
	importing sync.Mutex
}

// ownStore is the part of an image store that a node uses.
type ownStore interface {
	imageStore
	Close() error
}

// Get returns an image that is present or carried.
func (c *carried) Get(ctx context.Context, ref string) (agent.Image, bool, error) {
	found, ok, err := c.ownStore.Get(ctx, ref)
	if ok || err != nil || !isHello(ref) {
		return found, ok, err
	}
	c.importing.Lock()
	defer c.importing.Unlock()
	if found, ok, err = c.ownStore.Get(ctx, ref); ok || err != nil { // imported meanwhile
		return found, ok, err
	}
	archive, err := embed.Hello()
	if err != nil {
		return agent.Image{}, false, err
	}
	defer archive.Close()
	if _, err := c.Import(ctx, archive); err != nil {
		return agent.Image{}, false, fmt.Errorf("import the carried image %s: %w", ref, err)
	}
	return c.ownStore.Get(ctx, ref)
}

// isHello says whether a name means the hello image. A name that cannot be
// read does not; the store says what is wrong with it.
func isHello(ref string) bool {
	name, err := image.Normalize(ref)
	return err == nil && name == embed.HelloImage
}
