package node

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"

	"github.com/skiff-sh/skiff/internal/checkpoint"
)

// way is the node's way to the API: past what it remembers of that, if it does.
func (n *node) way() http.RoundTripper {
	if n.Checkpoint == "" {
		return n.Uplink
	}
	n.memory = checkpoint.Open(checkpoint.Config{
		Path:    n.Checkpoint,
		Cluster: fmt.Sprintf("%s %x", n.Settings.NodeName, sha256.Sum256(n.Authority.Raw)),
		Next:    n.Uplink, Log: n.Log.Named("checkpoint"),
	})
	n.closers = append(n.closers, n.memory.Close)
	return n.memory
}

// remember keeps what the node remembers until the context ends.
func (n *node) remember(ctx context.Context) error {
	if n.memory == nil {
		return nil
	}
	return n.memory.Run(ctx)
}
