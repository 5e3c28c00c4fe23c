package node

import (
	"context"
	"fmt"

	"github.com/skiff-sh/skiff/embed"
	"github.com/skiff-sh/skiff/internal/agent"
	"github.com/skiff-sh/skiff/internal/agent/image"
)

// carried is an image store that also has the images this executable carries:
// they are imported when they are first asked for.
type carried struct{ *image.Store }

// Get returns an image that is present or carried.
func (c carried) Get(ctx context.Context, ref string) (agent.Image, bool, error) {
	found, ok, err := c.Store.Get(ctx, ref)
	if ok || err != nil || !isHello(ref) {
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
	return c.Store.Get(ctx, ref)
}

// isHello says whether a name means the hello image. A name that cannot be
// read does not; the store says what is wrong with it.
func isHello(ref string) bool {
	name, err := image.Normalize(ref)
	return err == nil && name == embed.HelloImage
}
