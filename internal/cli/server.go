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
	"github.com/skiff-sh/skiff/internal/server"
)

func newServer() *cobra.Command {
	settings := config.DefaultServer()
	table := settings.Settings()
	var file string
	c := &cobra.Command{
		Use:   "server [flags]",
		Short: "Run the control plane and this machine's node",
		Long: `Server runs a whole cluster in this process: API, controllers, scheduler, and a
node that runs Pods on this machine. Settings come from a file, its drop-ins
(FILE.d/*.yaml), the environment and flags; later ones replace earlier ones.
SIGTERM stops the process and leaves the Pods running; the next start finds them.`,
		Example: `  skiff server
  skiff server --data-dir /srv/skiff --node-label disk=ssd
  SKIFF_TLS_SAN=box.example.org skiff server --log-format json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if file == "" {
				file = os.Getenv(config.EnvironmentPrefix + "CONFIG")
			}
			err := config.Load(table, config.Sources{File: file, Environment: os.Environ(), Flags: c.Flags()})
			if err = errors.Join(err, settings.Validate()); err != nil {
				return fmt.Errorf("settings:\n%w", err)
			}
			return runServer(c.Context(), settings)
		},
	}
	c.Flags().SortFlags = false
	c.Flags().StringVar(&file, "config", "", "settings file (default "+config.DefaultFile+") ["+config.EnvironmentPrefix+"CONFIG]")
	config.RegisterFlags(c.Flags(), table)
	return c
}

func runServer(ctx context.Context, settings config.Server) error {
	if os.Geteuid() != 0 && !settings.DisableAgent {
		return errors.New("a node needs root: run it with sudo, or run the control plane alone with --disable-agent")
	}
	log, err := newLogger(settings.Node)
	if err != nil {
		return err
	}
	defer func() { _ = log.Sync() }() // standard error may be a pipe that cannot sync
	ctx, stop := signal.NotifyContext(ctx, unix.SIGTERM, unix.SIGINT)
	defer stop()
	return server.Run(ctx, settings, log)
}
