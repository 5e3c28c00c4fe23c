package cli

import (
	"errors"
	"os"

	"github.com/spf13/cobra"

	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/node"
)

func newKillall() *cobra.Command {
	directory := dataDir()
	c := &cobra.Command{
		Use:   "killall",
		Short: "End every Pod of this machine's node and undo what it did to the host",
		Long: `Killall ends all containers of one data directory and removes their mounts, links,
routes, firewall table and control groups. It ends a skiff that runs on that data
directory first. The data stays: the next start brings the Pods back.`,
		Example: `  skiff killall
  skiff killall --data-dir /srv/skiff`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if os.Geteuid() != 0 {
				return errors.New("ending Pods needs root: run it with sudo")
			}
			return node.KillAll(c.Context(), config.NewHost(directory))
		},
	}
	c.Flags().StringVar(&directory, "data-dir", directory, "where that skiff keeps everything")
	return c
}
