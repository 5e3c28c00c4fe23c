package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/hollow"
)

func newHollow() *cobra.Command {
	settings := config.DefaultHollow()
	table := settings.Settings()
	var file string
	c := &cobra.Command{
		Use:   "hollow [flags]",
		Short: "Run nodes that only pretend to run Pods, to test a server with many",
		Long: `Hollow joins any number of nodes to a cluster and runs them in one process. To
the server they are real: each has its own certificates, Lease, watches and tunnel.
Their Pods become Ready and have addresses, but nothing runs. The machine is not
touched, and root is not needed.

The nodes stay in the cluster when the process ends, and the next start with the
same data directory goes on with them. "skiff kubectl delete node" takes them out;
then the data directory can be removed. A cluster has room for 256 nodes, unless
its server was started with a larger --cluster-cidr.`,
		Example: `  skiff hollow --count 100 --server https://192.0.2.1:6443 --token K10...::... --data-dir /tmp/hollow
  SKIFF_TOKEN=K10...::... skiff hollow --count 10 --server https://a:6443 --node-taint hollow=:NoSchedule`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if file == "" {
				file = os.DevNull // the one that servers and agents have is not for these
			}
			err := config.Load(table, config.Sources{File: file, Environment: os.Environ(), Flags: c.Flags()})
			if err = errors.Join(err, settings.Validate()); err != nil {
				return fmt.Errorf("settings:\n%w", err)
			}
			return runHollow(c.Context(), settings)
		},
	}
	c.Flags().SortFlags = false
	c.Flags().StringVar(&file, "config", "", "settings file (default: none)")
	config.RegisterFlags(c.Flags(), table)
	return c
}

func runHollow(ctx context.Context, settings config.Hollow) error {
	log, err := newLogger(config.Node{LogLevel: settings.LogLevel, LogFormat: settings.LogFormat})
	if err != nil {
		return err
	}
	defer func() { _ = log.Sync() }() // standard error may be a pipe that cannot sync
	ctx, stop := signal.NotifyContext(ctx, unix.SIGTERM, unix.SIGINT)
	defer stop()
	return hollow.Run(ctx, settings, log)
}
