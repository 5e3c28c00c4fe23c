package cli

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/skiff-sh/skiff/internal/config"
	"github.com/skiff-sh/skiff/internal/node"
)

func newLeave() *cobra.Command {
	directory := dataDir()
	how := node.Departure{Timeout: 5 * time.Minute}
	c := &cobra.Command{
		Use:   "leave",
		Short: "Take this machine out of its cluster",
		Long: `Leave has the agent that runs on this machine empty its node as kubectl drain does:
it takes no new Pods, and those that it has are evicted, so that others start
elsewhere. Then what still runs (Pods of DaemonSets) ends, the node is deleted from
the cluster, and the agent forgets the cluster and ends. Images stay.

A Pod that no controller would start elsewhere stops it, and so does one that does
not end in time: the node then stays, without new Pods. With --force both are lost,
and a server that does not answer is done without.`,
		Example: `  skiff leave
  skiff leave --timeout 30s --force`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if os.Geteuid() != 0 {
				return errors.New("leaving a cluster is for root: run it with sudo")
			}
			out := c.OutOrStdout()
			ctx, stop := interruptible(c.Context())
			defer stop()
			unit, err := node.Leave(ctx, config.NewHost(directory), how, func(text string) { fmt.Fprintln(out, text) })
			if err != nil {
				return err
			}
			fmt.Fprintln(out, "This machine has left the cluster.")
			if unit != "" {
				fmt.Fprintf(out, "So that it does not join again, run: systemctl disable --now %s\n", unit)
			}
			return nil
		},
	}
	c.Flags().SortFlags = false
	c.Flags().StringVar(&directory, "data-dir", directory, "where that agent keeps everything")
	c.Flags().DurationVar(&how.Timeout, "timeout", how.Timeout, "how long Pods may take to end (0: as long as it takes)")
	c.Flags().BoolVar(&how.Force, "force", false, "leave whatever stands in the way")
	return c
}
