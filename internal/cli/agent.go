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
	"github.com/skiff-sh/skiff/internal/node"
)

func newAgent() *cobra.Command {
	settings := config.DefaultAgent()
	table := settings.Settings()
	var file string
	c := &cobra.Command{
		Use:   "agent [flags]",
		Short: "Make this machine a node of a cluster and run it",
		Long: `Agent joins the cluster of a server with a token, which "skiff token create" there
makes, and runs Pods on this machine. It needs the token once: what it got for it
is kept below the data directory, and the next start waits for no server. It may
stand behind NAT: all that it needs is a way out to the server's port.

The token says which cluster to trust. A short one, without the K10 in front, is
refused: whoever answered in the server's place would get it.

Settings come from a file, its drop-ins (FILE.d/*.yaml), the environment and flags;
later ones replace earlier ones. SIGTERM stops the process and leaves the Pods
running; the next start finds them. "skiff leave" takes the machine out again.`,
		Example: `  skiff agent --server https://192.0.2.1:6443 --token K10...::...
  skiff agent --server https://a:6443 --server https://b:6443 --token-file /etc/skiff/token
  SKIFF_URL=https://192.0.2.1:6443 SKIFF_TOKEN=K10...::... skiff agent --node-label disk=ssd`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if file == "" {
				file = os.Getenv(config.EnvironmentPrefix + "CONFIG")
			}
			err := config.Load(table, config.Sources{File: file, Environment: os.Environ(), Flags: c.Flags()})
			if err = errors.Join(err, settings.Validate()); err != nil {
				return fmt.Errorf("settings:\n%w", err)
			}
			return runAgent(c.Context(), settings)
		},
	}
	c.Flags().SortFlags = false
	c.Flags().StringVar(&file, "config", "", "settings file (default "+config.DefaultFile+") ["+config.EnvironmentPrefix+"CONFIG]")
	config.RegisterFlags(c.Flags(), table)
	return c
}

func runAgent(ctx context.Context, settings config.Agent) error {
	if os.Geteuid() != 0 {
		return errors.New("a node needs root: run it with sudo")
	}
	log, err := newLogger(settings.Node)
	if err != nil {
		return err
	}
	defer func() { _ = log.Sync() }() // standard error may be a pipe that cannot sync
	ctx, stop := signal.NotifyContext(ctx, unix.SIGTERM, unix.SIGINT)
	defer stop()
	return node.RunAgent(ctx, settings, log)
}
